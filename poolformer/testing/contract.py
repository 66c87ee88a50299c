"""The contract of a token mixer as tests: `check_mixer` for anybody's mixer, in three lines.

    from poolformer.testing import check_mixer

    def test_my_mixer_keeps_the_contract():
        check_mixer(MyMixer)

`RULES` lists the rules; ``plugins/README.md`` says them in words, ``rules.py`` in code.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import OptionsError, describe, is_end, suggestion
from ..network.mixer_spec import Mixer, resolve
from . import rules as rules

DIMS = (32, 64)


def check_mixer(
    factory: Callable[..., nn.Module] | str,
    /,
    *,
    expected_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Check that a token mixer keeps every rule of the contract, at two widths, on small maps.

    Args:
        factory: ``factory(dim, **options) -> nn.Module``, or its name as for ``--model.mixer``: an
            installed one or ``package.module:factory``.
        expected_failures: Rules that this mixer is known to break, each with the reason. Such a rule
            must fail: when it passes, that is reported too.
        **options: Options of the mixer, passed on to the factory.

    Raises:
        AssertionError: The mixer breaks rules; one line for each, with what was found and what to do.
        OptionsError: ``expected_failures`` names a rule that does not exist, or the factory behind a
            name does not take the options.
        RegistryError: No mixer has this name.

    Example:
        >>> check_mixer("pooling", pool_size=5)
    """
    expected = dict(expected_failures or {})
    _check_rule_names(expected)
    mixer = _look_up(factory, options)
    verdicts = _judge(mixer)
    lines = [f"  {rule}: {found}" for rule, found in verdicts.items() if found and rule not in expected]
    lines += [
        f"  {rule}: passes, though a failure is expected ({expected[rule]}). Take it out of expected_failures."
        for rule, found in verdicts.items()
        if not found and rule in expected
    ]
    if lines:
        if len(verdicts) < len(RULES):
            lines.append("  The rules after that one can be tried once it is kept.")
        raise AssertionError("\n".join([f"{mixer.label} does not keep the contract:", *lines]))


@dataclass(frozen=True)
class Rule:
    """One rule of the contract.

    Attributes:
        name: Name of the rule, for messages and ``expected_failures``.
        check: Returns what was found where a mixer breaks the rule; its docstring states the rule.
        remedy: What to do then.
        essential: Whether the rules below make no sense without this one.
    """

    name: str
    check: Callable[[rules.Case], str | None]
    remedy: str
    essential: bool = False

    @property
    def sentence(self) -> str:
        """The rule in words."""
        return " ".join((inspect.getdoc(self.check) or "").split())

    def judge(self, mixer: Mixer) -> str | None:
        """Return what was found and what to do, or None where the mixer keeps the rule."""
        for dim in DIMS:
            try:
                with _isolated():
                    found = self.check(rules.Case(mixer, dim))
            except (Exception, SystemExit) as error:  # whatever a mixer raises is the finding
                if is_end(error):
                    raise
                found = describe(error)
            if found:
                return f"{found.rstrip('.')} (dim={dim}). {self.remedy}"
        return None


RULES = (
    Rule("signature", rules.takes_dim_first, "Write def __init__(self, dim: int, option: int = 3)."),
    Rule("module", rules.makes_module, "Return a torch.nn.Module for any dim.", essential=True),
    Rule("shape", rules.keeps_shape, "Return one tensor, without stride or flattening.", essential=True),
    Rule("sizes", rules.keeps_any_size, "Take B, H and W from x.shape, or take the keyword resolution."),
    Rule("input", rules.leaves_input, "Work on a new tensor: no x += ..., no inplace=True on the input."),
    Rule("batch", rules.separates_samples, "Mix over C, H and W only, not over B."),
    Rule("repeats", rules.repeats, "Draw random numbers only if self.training."),
    Rule("gradient", rules.passes_gradient, "Drop what is not used; no detach(), no numpy; guard divisions and roots."),
    Rule("state_dict", rules.saves_state, "Keep what is drawn at random in a parameter or with register_buffer(...)."),
    Rule("deepcopy", rules.copies, "Hold only modules, parameters, buffers and plain values; EMA copies the network."),
    Rule("pickle", rules.pickles, "Hold no lambda, no local class and no open file; processes send the network so."),
    Rule("bfloat16", rules.runs_in_bfloat16, "Layers give bfloat16 under autocast: cast where types meet."),
    Rule("float64", rules.runs_in_float64, "Make new tensors with dtype=x.dtype, and do not cast the result."),
    Rule("channels_last", rules.takes_channels_last, "Use reshape or flatten instead of view."),
    Rule("device", rules.moves_to_device, "Hold tensors by register_buffer, make new ones with device=x.device."),
    Rule("export", rules.exports, "No control flow over values or the batch, no attributes set in forward."),
    Rule("flops", rules.is_countable, "Register one with torch.utils.flop_counter.register_flop_formula."),
)


def _judge(mixer: Mixer) -> dict[str, str | None]:
    """Findings by rule, up to the first essential rule that is broken."""
    verdicts = {}
    for rule in RULES:
        verdicts[rule.name] = rule.judge(mixer)
        if verdicts[rule.name] and rule.essential:
            break
    return verdicts


@contextmanager
def _isolated() -> Iterator[None]:
    """Leave the caller's random numbers alone, and use one thread: for maps this small more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _look_up(factory: Callable[..., nn.Module] | str, options: dict[str, Any]) -> Mixer:
    if isinstance(factory, str):
        return resolve({"name": factory, **options})[0]
    return dataclasses.replace(resolve(factory)[0], options=options)


def _check_rule_names(names: Iterable[str]) -> None:
    known = [rule.name for rule in RULES]
    for name in names:
        if name not in known:
            raise OptionsError(f"no rule is called {name!r}.{suggestion(name, known)} The rules: {', '.join(known)}.")
