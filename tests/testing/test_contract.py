import re

import bad_mixers
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import register_flop_formula

from poolformer import registry
from poolformer.errors import OptionsError, UnknownNameError
from poolformer.network.mixer_spec import resolve
from poolformer.testing import RULES, check_mixer

BUILT_IN = [name for name, entry in registry.listing(registry.MIXERS).items() if entry.builtin]

# A mixer, the rules it breaks and no others, and what the message says was found.
BROKEN = [
    (bad_mixers.OtherFirstParameter, ["signature"], "the first parameter is 'channels'"),
    (bad_mixers.OptionCalledName, ["signature"], "an option is called 'name'"),
    (bad_mixers.a_function_not_a_module, ["module"], "the factory returned function"),
    (bad_mixers.OneWidthOnly, ["module"], "ValueError: made for 32 channels (dim=64)"),
    (bad_mixers.Strided, ["shape"], "(2, 32, 7, 7) became (2, 32, 3, 3)"),
    (bad_mixers.HalfPrecisionResult, ["shape"], "torch.float32 became torch.float16"),
    (bad_mixers.SwapsHeightAndWidth, ["sizes"], "(1, 32, 7, 5) became (1, 32, 5, 7)"),
    (bad_mixers.SqueezesABatchOfOne, ["sizes"], "(1, 32, 7, 7) became (32, 7, 7)"),
    (bad_mixers.ChangesItsInput, ["input"], "forward changed its input in place"),
    (bad_mixers.CentresOverTheBatch, ["batch"], "the first sample, beside another one, differs by up to 0.5"),
    (bad_mixers.DropsInEvaluation, ["repeats"], "the second output differs by up to"),
    (bad_mixers.UnusedParameter, ["gradient"], "no gradient reaches bias"),
    (bad_mixers.DetachedInput, ["gradient", "bfloat16"], "no gradient reaches the input"),
    (bad_mixers.InfiniteGradient, ["gradient", "bfloat16"], "the gradient of the input is not finite"),
    (bad_mixers.RandomOrderOutsideTheStateDict, ["state_dict"], "the output after loading differs by up to"),
    (bad_mixers.HoldsAGraph, ["deepcopy"], "RuntimeError: Only Tensors created explicitly by the user"),
    (bad_mixers.HoldsALambda, ["pickle"], "lambda"),
    (bad_mixers.MixesTypes, ["bfloat16"], "dtype"),
    (bad_mixers.FixedFloat32, ["float64"], "same dtype"),
    (bad_mixers.ViewsContiguousMemory, ["channels_last"], "Use .reshape(...) instead"),
    (bad_mixers.TensorLeftBehind, ["device"], "meta"),
    (bad_mixers.LoopsOverTheBatch, ["export"], "batch"),
    (bad_mixers.OperatorWithoutFormula, ["flops"], "no FLOP formula for bad_mixers.double"),
]


def _report(mixer, **arguments) -> str:
    with pytest.raises(AssertionError) as caught:
        check_mixer(mixer, **arguments)
    return str(caught.value)


def _rules_in(report: str) -> list[str]:
    return re.findall(r"^  (\w+): ", report, flags=re.MULTILINE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_keeps_the_rule(name, rule):
    assert rule.judge(resolve(name)[0]) is None


@pytest.mark.parametrize(("mixer", "rules", "found"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_bad_mixer_breaks_its_rule_and_no_other(mixer, rules, found):
    report = _report(mixer)
    assert _rules_in(report) == rules
    assert found in report
    assert next(rule.remedy for rule in RULES if rule.name == rules[0]) in report


def test_each_rule_has_a_mixer_that_breaks_it_alone():
    assert {rules[0] for _, rules, _ in BROKEN if len(rules) == 1} == {rule.name for rule in RULES}


def test_option_without_a_default_breaks_the_signature_even_when_it_is_given():
    report = _report(bad_mixers.OptionWithoutDefault, window=3)
    assert _rules_in(report) == ["signature"]
    assert "without a default: window" in report


def test_all_broken_rules_are_reported_at_once():
    class Bad(bad_mixers.Mixer):  # local, so that it cannot be pickled either
        def forward(self, x):
            x += 1
            return x - x.mean(0)

    assert _rules_in(_report(Bad)) == ["input", "batch", "gradient", "pickle"]


def test_report_says_where_it_stopped():
    report = _report(bad_mixers.Strided)
    assert report == (
        "token mixer 'Strided' does not keep the contract:\n"
        "  shape: (2, 32, 7, 7) became (2, 32, 3, 3) (dim=32). Return one tensor, without stride or flattening.\n"
        "  The rules after that one can be tried once it is kept."
    )


def test_expected_failure_is_accepted():
    check_mixer(bad_mixers.HoldsALambda, expected_failures={"pickle": "holds a lambda"})


def test_expected_failure_that_passes_is_reported():
    report = _report(bad_mixers.Mixer, expected_failures={"pickle": "holds a lambda"})
    assert report.splitlines()[1:] == [
        "  pickle: passes, though a failure is expected (holds a lambda). Take it out of expected_failures."
    ]


def test_expected_failure_hides_no_other_failure():
    report = _report(bad_mixers.DetachedInput, expected_failures={"bfloat16": "detached on purpose"})
    assert _rules_in(report) == ["gradient"]


def test_misspelt_rule_gets_a_suggestion():
    with pytest.raises(OptionsError, match=r"no rule is called 'pickel'\. Did you mean 'pickle'\? The rules: sig"):
        check_mixer("identity", expected_failures={"pickel": "?"})


def test_options_reach_a_factory_and_a_name():
    check_mixer("pooling", pool_size=5)
    report = _report(resolve("pooling")[0].factory, pool_size=4)
    assert _rules_in(report) == ["module"]
    assert "pool_size must be odd" in report


def test_unknown_name_and_unknown_option_are_the_callers_mistake():
    with pytest.raises(UnknownNameError, match="Did you mean 'pooling'"):
        check_mixer("poling")
    with pytest.raises(OptionsError, match="has no option 'poolsize'"):
        check_mixer("pooling", poolsize=3)


def test_import_reference_is_looked_up():
    check_mixer("bad_mixers:Mixer")


class PositionBias(nn.Module):
    """One learned number for each token, so the map's size is fixed when it is built."""

    def __init__(self, dim: int, *, resolution: tuple[int, int]):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(resolution))

    def forward(self, x):
        return x + self.bias


def test_mixer_with_resolution_is_tried_at_its_own():
    check_mixer(PositionBias)


def test_swapped_resolution_is_found():
    class Swapped(PositionBias):
        def __init__(self, dim: int, *, resolution: tuple[int, int]):
            super().__init__(dim, resolution=resolution[::-1])

    report = _report(Swapped, expected_failures={"pickle": "a local class"})
    assert _rules_in(report) == ["sizes"]
    assert "The size of tensor a (5) must match the size of tensor b (7)" in report


class Gate(nn.Module):
    """A mixer that starts as the identity: its zero weight hides the leak between samples."""

    def __init__(self, dim: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(dim, 1, 1))

    def forward(self, x):
        return x + self.gate * x.flip(0)


def test_weight_that_starts_at_zero_hides_nothing():
    assert _rules_in(_report(Gate)) == ["batch"]


def test_operator_with_a_registered_formula_is_countable():
    def flops(x_shape, out_shape=None, **kwargs) -> int:
        return 2

    @torch.library.custom_op("test_testing::triple", mutates_args=())
    def triple(x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    register_flop_formula(torch.ops.test_testing.triple)(flops)

    class Triple(nn.Module):
        def __init__(self, dim: int):
            super().__init__()

        def forward(self, x):
            return triple(x)

    (rule,) = (rule for rule in RULES if rule.name == "flops")
    assert rule.judge(resolve(Triple)[0]) is None


@pytest.mark.slow
def test_callers_random_numbers_and_threads_are_left_alone():
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    check_mixer("depthwise")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_each_rule_is_stated_as_a_sentence_and_has_a_remedy():
    for rule in RULES:
        assert rule.sentence.endswith(".")
        assert rule.remedy.endswith(".")
