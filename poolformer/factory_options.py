"""Options that a user gives to a factory by name: checked against its signature, and converted to its types."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .errors import OptionsError, suggestion


def parameters(factory: Callable[..., Any], *, hidden: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """Return the parameters of a factory by name, without those that take any number of arguments.

    Args:
        factory: A function or a class.
        hidden: Names that are no options of the user's.
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some builtins have none
        return {}
    return {name: p for name, p in signature.parameters.items() if p.kind not in variadic and name not in hidden}


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
    from jsonargparse import ArgumentError, ArgumentParser  # 0.5 s, and needed only for options

    known = parameters(factory, hidden=hidden)
    typed = factory.func if isinstance(factory, functools.partial) else factory
    for name, value in options.items():
        if value is None and not _takes_none(known[name]):  # jsonargparse lets it pass
            raise OptionsError(f"{label} got {options}; {name} may not be null. It takes: {_signature(known)}.")
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(typed) else parser.add_function_arguments
    skip: set[str | int] = {name for name in hidden if name in parameters(typed)}
    add(typed, None, skip=skip, fail_untyped=False)
    try:
        parsed = parser.parse_object(dict(options), defaults=False)
    except ArgumentError as error:
        reason = " ".join(str(error).split()).removeprefix("Parser key ").rstrip(".")
        raise OptionsError(f"{label} got {options}; {reason}. It takes: {_signature(known)}.") from error
    return {name: parsed[name] for name in options}


def _takes_none(parameter: inspect.Parameter) -> bool:
    return parameter.default is None or any(word in str(parameter.annotation) for word in ("None", "Optional", "Any"))


def _signature(known: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(map(str, known.values())) or "no options"
