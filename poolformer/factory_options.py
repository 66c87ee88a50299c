"""Options that a user gives to a factory by name: checked against its signature, and converted to its types."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .errors import OptionsError, suggestion

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_NOT_BY_ALL = "NOT_ACCEPTED"  # in what jsonargparse has for the default of an option that not all callees take


def parameters(factory: Callable[..., Any], *, hidden: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """Return the parameters of a factory by name, with those that it passes on by ``**kwargs`` where its code says so.

    Args:
        factory: A function or a class.
        hidden: Names that are no options of the user's.
    """
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some builtins have none
        return {}
    own = {name: p for name, p in signature.parameters.items() if p.kind not in _VARIADIC}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        own |= {name: p for name, p in _passed_on(factory).items() if name not in own}
    return {name: p for name, p in own.items() if name not in hidden}


def _passed_on(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of what a factory calls with its ``**kwargs``, as jsonargparse reads its code.

    Left out is what it keeps or drops, which has no names, and what only some of several callees take. A default that
    depends on which is called is not said.
    """
    from jsonargparse._parameter_resolvers import UnknownDefault, get_signature_parameters  # 0.1 s

    typed, bound = _typed(factory)
    try:
        resolved = get_signature_parameters(typed, logger=False)
    except ValueError:  # neither a function nor a class, but an object that can be called
        return {}
    found, own = {}, inspect.signature(typed).parameters
    for each in resolved:
        if each.name in own:
            continue
        default, is_open = each.default, isinstance(each.default, UnknownDefault)
        if not (is_open and _NOT_BY_ALL in str(default)):
            default = bound.get(each.name, inspect.Parameter.empty if is_open else default)
            found[each.name] = inspect.Parameter(each.name, _BY_NAME, default=default, annotation=each.annotation)
    return found


def _typed(factory: Callable[..., Any]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Return the function or class behind a partial one, and what is bound in that by name."""
    return (factory.func, factory.keywords) if isinstance(factory, functools.partial) else (factory, {})


def check_names(
    label: str, factory: Callable[..., Any], options: Mapping[str, Any], *, hidden: Collection[str] = (), hint: str = ""
) -> None:
    """Check that a factory takes these options.

    Args:
        label: The factory in words.
        factory: A function or a class.
        options: By name.
        hidden: Names that are no options of the user's.
        hint: What to do, for the end of the message.

    Raises:
        OptionsError: An unknown option; the message lists what the factory takes.
    """
    known = parameters(factory, hidden=hidden)
    for option in options:
        if option not in known:
            near = suggestion(option, list(known))
            raise OptionsError(f"{label} has no option {option!r}.{near} It takes: {_signature(known)}.{hint}")


def convert(
    label: str, factory: Callable[..., Any], options: Mapping[str, Any], *, hidden: Collection[str] = ()
) -> dict[str, Any]:
    """Convert options to the types of a factory's signature.

    Args:
        label: The factory in words.
        factory: A function or a class.
        options: By name, each of which it takes.
        hidden: Names that are no options of the user's.

    Raises:
        OptionsError: A value is of another type.
    """
    from jsonargparse import ArgumentError  # 0.5 s, and needed only for options

    known = parameters(factory, hidden=hidden)
    typed, _ = _typed(factory)
    for name, value in options.items():
        if value is None and not _takes_none(known[name]):  # jsonargparse lets it pass
            raise OptionsError(f"{label} got {options}; {name} may not be null. It takes: {_signature(known)}.")
    given = {name: value for name, value in options.items() if is_comparable(known[name].default)}
    parser = parser_of(typed, skip={*parameters(typed), *hidden} - given.keys())
    try:
        parsed = parser.parse_object(given, defaults=False)
    except ArgumentError as error:
        reason = " ".join(str(error).split()).removeprefix("Parser key ").rstrip(".")
        raise OptionsError(f"{label} got {options}; {reason}. It takes: {_signature(known)}.") from error
    return {name: parsed[name] if name in given else value for name, value in options.items()}


def parser_of(factory: Callable[..., Any], *, skip: Collection[str]) -> Any:
    """Return jsonargparse's parser of a factory's options.

    Args:
        factory: A function or a class.
        skip: Names of options that it need not know the type of, or compare the default.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(factory) else parser.add_function_arguments
    add(factory, None, skip=set(skip), fail_untyped=False)
    return parser


def is_comparable(default: Any) -> bool:
    """Return whether a default can be compared with another, as jsonargparse does; an array cannot."""
    try:
        bool(default == inspect.Parameter.empty)
    except Exception:
        return False
    return True


def _takes_none(parameter: inspect.Parameter) -> bool:
    return parameter.default is None or any(word in str(parameter.annotation) for word in ("None", "Optional", "Any"))


def _signature(known: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(map(str, known.values())) or "no options"
