"""How a token mixer is written down, checked and tried out before it goes into a network."""

import functools
import re

import pytest
import torch
from torch import Tensor, nn

from poolformer.backbones import create_backbone
from poolformer.errors import AmbiguousNameError, BrokenPluginError, OptionsError, UnknownNameError
from poolformer.network.metaformer import MetaFormer
from poolformer.network.mixer_spec import resolve
from poolformer.registry import DISTRIBUTION, MIXERS

# ---- a plugin with everything that can be right or wrong about a mixer

SOURCE = """
import torch
from torch import nn


class Typed(nn.Identity):
    def __init__(self, dim: int, size: int = 3, rate: float = 0.5, fast: bool = False, kind: str = "a",
                 window: tuple[int, int] = (1, 1), free=None):
        super().__init__()
        self.given = (size, rate, fast, kind, window, free)


class Mixer(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return self.mix(x)


def works(dim): return Mixer(lambda x: x)
def no_module(dim): return "a string"
def function(dim): return lambda x: x
def returns_none(dim): return None
def needs_two(dim, size): return Mixer(lambda x: x)
def raises(dim): raise ZeroDivisionError("too early")
def exits(dim): raise SystemExit(0)
def forward_exits(dim): return Mixer(lambda x: exec("raise SystemExit('no licence')"))
def forward_raises(dim): return Mixer(lambda x: 1 / 0)
def wants_tokens_last(dim): return nn.Linear(dim, dim)
def halves(dim): return nn.AvgPool2d(2)
def widens(dim): return nn.Conv2d(dim, dim + 1, 1)
def swaps(dim): return Mixer(lambda x: x.transpose(2, 3))
def flattens(dim): return nn.Flatten()
def drops_batch(dim): return Mixer(lambda x: x[0])
def returns_pair(dim): return Mixer(lambda x: (x, x))
def returns_number(dim): return Mixer(lambda x: 0.0)
def returns_float64(dim): return Mixer(lambda x: x.double())
def returns_integers(dim): return Mixer(lambda x: x.long())
"""


@pytest.fixture
def plugin(fake_plugin):
    names = [line.split()[1].partition("(")[0] for line in SOURCE.splitlines() if line.startswith(("def ", "class T"))]
    points = {name.lower(): f"my_dist:{name}" for name in names}
    fake_plugin(name="my-dist", version="1.2", entry_points={MIXERS: points}, modules={"my_dist": SOURCE})


def tiny(mixer, **options) -> MetaFormer:
    return MetaFormer((1, 1, 2, 1), (8, 16, 24, 32), num_classes=10, mixer=mixer, **options)


def mixers_of(model: MetaFormer) -> list[nn.Module]:
    return [block.token_mixer for stage in model.stages for block in stage.blocks]


# ---- spellings


class Shift(nn.Module):
    """A mixer defined in Python, without a package."""

    def __init__(self, dim: int, steps: int = 1):
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(self.steps, 3)


SPELLINGS = [
    ("identity", ["Identity"] * 5),
    ({"name": "identity"}, ["Identity"] * 5),
    ({"name": "pooling", "pool_size": 5}, ["Pooling"] * 5),
    (
        ["pooling", "identity", "attention", "depthwise"],
        ["Pooling", "Identity", "Attention", "Attention", "DepthwiseConv"],
    ),
    (("identity", {"name": "depthwise"}, Shift, "pooling"), ["Identity", "DepthwiseConv", "Shift", "Shift", "Pooling"]),
    (Shift, ["Shift"] * 5),
    (lambda dim: Shift(dim, 2), ["Shift"] * 5),
    (functools.partial(Shift, steps=3), ["Shift"] * 5),
    ("poolformer/identity", ["Identity"] * 5),
    ("poolformer.network.mixers:Identity", ["Identity"] * 5),
]


@pytest.mark.parametrize(("spec", "kinds"), SPELLINGS, ids=[re.sub(r" at 0x\w+", "", str(row[0])) for row in SPELLINGS])
def test_every_spelling_gives_the_mixers_of_the_stages(spec, kinds):
    model = tiny(spec)
    assert [type(mixer).__name__ for mixer in mixers_of(model)] == kinds
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_options_reach_every_block():
    assert [mixer.pool.kernel_size for mixer in mixers_of(tiny({"name": "pooling", "pool_size": 5}))] == [5] * 5


def test_each_stage_has_options_of_its_own():
    sizes = [{"name": "pooling", "pool_size": size} for size in (3, 5, 7, 9)]
    assert [mixer.pool.kernel_size for mixer in mixers_of(tiny(sizes))] == [3, 5, 7, 7, 9]


def test_every_block_has_a_mixer_of_its_own():
    mixers = mixers_of(tiny("depthwise"))
    assert len({id(mixer) for mixer in mixers}) == 5
    assert len({parameter.data_ptr() for mixer in mixers for parameter in mixer.parameters()}) == 10


def test_a_resolved_mixer_says_where_it_comes_from(plugin):
    ours, theirs, bare, factory = resolve(
        ["pooling", {"name": "my-dist/works"}, "poolformer.network.mixers:Identity", Shift]
    )
    assert (ours.name, ours.origin.split()[0]) == ("pooling", DISTRIBUTION)
    assert (theirs.name, theirs.origin) == ("my-dist/works", "my-dist 1.2")
    assert (bare.name, bare.origin) == ("poolformer.network.mixers:Identity", "")
    assert (factory.name, factory.origin) == ("Shift", "")


def test_a_specification_is_not_changed_by_its_use():
    spec = [{"name": "pooling", "pool_size": "5"}, "identity", "identity", "identity"]
    resolve(spec)
    assert spec[0] == {"name": "pooling", "pool_size": "5"}


WRONG_SPELLINGS = [
    (["pooling", "identity"], r"one token mixer for each of 4 stages; got 2$"),
    ([], r"one token mixer for each of 4 stages; got 0$"),
    (5, r"a token mixer is a name, a mapping with a name, or a list of 4 of these; got 5$"),
    (None, r"a token mixer is a name, a mapping with a name, or a list of 4 of these; got None$"),
    ({"pool_size": 5}, r"mapping needs its name, got \{'pool_size': 5\}; write --model\.mixer\.name NAME"),
    ({"name": None, "pool_size": 5}, r"mapping needs its name, got \{'name': None, 'pool_size': 5\}; write"),
    ({}, r"mapping needs its name, got \{\}; write .* or \{name: NAME, \.\.\.\} in YAML$"),
    (["pooling", "pooling", "pooling", 7], r"mapping needs its name, got 7;"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG_SPELLINGS, ids=[str(row[0]) for row in WRONG_SPELLINGS])
def test_another_spelling_is_refused_with_the_right_one(spec, message):
    with pytest.raises(OptionsError, match=message):
        resolve(spec)


def test_an_unknown_name_is_found_in_a_list_too():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'pooling'\?"):
        tiny(["pooling", "pooling", "pooling", "poling"])


# ---- options


TYPED_OPTIONS = [
    ({"size": 5}, 0, 5),
    ({"size": "5"}, 0, 5),
    ({"rate": 1}, 1, 1.0),
    ({"rate": "1e-3"}, 1, 1e-3),
    ({"fast": "true"}, 2, True),
    ({"kind": "b"}, 3, "b"),
    ({"window": [3, 4]}, 4, (3, 4)),
    ({"free": [1, "x"]}, 5, [1, "x"]),
]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("option", "index", "expected"), TYPED_OPTIONS, ids=[str(row[0]) for row in TYPED_OPTIONS])
def test_an_option_gets_the_type_of_the_signature(option, index, expected):
    given = list(mixers_of(tiny({"name": "typed", **option}))[0].given)
    assert given[index] == expected
    assert type(given[index]) is type(expected)
    del given[index]
    assert given == [value for i, value in enumerate([3, 0.5, False, "a", (1, 1), None]) if i != index]


WRONG_OPTIONS = [
    (
        {"name": "pooling", "poolsize": 5},
        r"token mixer 'pooling' has no option 'poolsize'\. Did you mean 'pool_size'\?"
        r" It takes: pool_size: int = 3\.",
    ),
    (
        {"name": "typed", "sise": 5},
        r"token mixer 'typed' of my-dist 1\.2 \(my_dist:Typed\) has no option 'sise'\. Did you mean 'size'\?"
        r" It takes: size: int = 3, rate: float = 0\.5, ",
    ),
    (
        {"name": "identity", "pool_size": 5},  # the name alone was changed
        r"'identity' has no option 'pool_size'\. It takes: no options\. "
        r"To drop the options of another mixer, write --model\.mixer NAME\.",
    ),
    ({"name": "pooling", "dim": 8}, r"'pooling' has no option 'dim'\."),
    ({"name": "pooling", "resolution": (7, 7)}, r"'pooling' has no option 'resolution'\."),
    (
        {"name": "pooling", "pool_size": "big"},
        r"'pooling' got \{'pool_size': 'big'\}; .*int.* It takes: pool_size: int = 3\.",
    ),
    ({"name": "pooling", "pool_size": 2.5}, r"'pooling' got \{'pool_size': 2\.5\}; .*int"),
    ({"name": "typed", "window": [1]}, r"'typed' of my-dist 1\.2 .* got \{'window': \[1\]\}; "),
]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("spec", "message"), WRONG_OPTIONS, ids=[str(row[0]) for row in WRONG_OPTIONS])
def test_an_option_that_does_not_fit_the_signature_is_refused(spec, message):
    with pytest.raises(OptionsError, match=message) as caught:
        resolve(spec)
    assert "\n" not in str(caught.value)


def test_none_is_no_value_for_an_option_that_needs_one():
    with pytest.raises(OptionsError, match=r"'pooling' got \{'pool_size': None\}; "):
        resolve({"name": "pooling", "pool_size": None})


def test_an_option_is_not_suggested_in_place_of_itself():
    with pytest.raises(OptionsError) as caught:
        resolve({"name": "pooling", "dim": 8})
    assert "Did you mean 'dim'" not in str(caught.value)


def test_a_value_that_the_mixer_itself_refuses_keeps_its_words():
    with pytest.raises(OptionsError, match=r"pool_size must be odd and positive.*; got 4"):
        tiny({"name": "pooling", "pool_size": 4})


def test_options_for_a_factory_without_a_signature_are_refused():
    with pytest.raises((BrokenPluginError, OptionsError), match="builtins:dict"):
        resolve({"name": "builtins:dict", "a": 1})


# ---- found when the model is built, not in training


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_module", r"must return a torch\.nn\.Module, but returned str$"),
        ("function", r"must return a torch\.nn\.Module, but returned function$"),
        ("returns_none", r"must return a torch\.nn\.Module, but returned NoneType$"),
        ("needs_two", r"cannot be built with dim=16: TypeError: .*'size'"),
        ("raises", r"cannot be built with dim=16: ZeroDivisionError: too early"),
        ("exits", r"cannot be built with dim=16: SystemExit: 0"),
        ("forward_exits", r"cannot mix tokens of shape \(1, 16, 3, 2\): SystemExit: no licence"),
        ("forward_raises", r"cannot mix tokens of shape \(1, 16, 3, 2\): ZeroDivisionError: division by zero"),
        ("wants_tokens_last", r"cannot mix tokens of shape \(1, 16, 3, 2\): RuntimeError: "),
        ("halves", r"must keep the shape \(B, C, H, W\), but made \(1, 16, 1, 1\) of \(1, 16, 3, 2\)"),
        ("widens", r"must keep the shape \(B, C, H, W\), but made \(1, 17, 3, 2\) of \(1, 16, 3, 2\)"),
        ("swaps", r"must keep the shape \(B, C, H, W\), but made \(1, 16, 2, 3\) of \(1, 16, 3, 2\)"),
        ("flattens", r"must keep the shape \(B, C, H, W\), but made \(1, 96\) of \(1, 16, 3, 2\)"),
        ("drops_batch", r"must keep the shape \(B, C, H, W\), but made \(16, 3, 2\) of \(1, 16, 3, 2\)"),
        ("returns_pair", r"must keep the shape \(B, C, H, W\), but made tuple of \(1, 16, 3, 2\)"),
        ("returns_number", r"must keep the shape \(B, C, H, W\), but made float of \(1, 16, 3, 2\)"),
        ("returns_float64", r"must keep the dtype, but made torch\.float64 of torch\.float32"),
        ("returns_integers", r"must keep the dtype, but made torch\.int64 of torch\.float32"),
    ],
)
def test_a_mixer_that_breaks_the_contract_is_named_with_its_package(name, message):
    with pytest.raises(BrokenPluginError, match=message) as caught:
        create_backbone("poolformer_tiny", mixer=name, image_size=8)
    assert str(caught.value).startswith(f"token mixer '{name}' of my-dist 1.2 (my_dist:{name}) ")


@pytest.mark.usefixtures("plugin")
def test_a_mixer_that_breaks_the_contract_harms_no_other():
    assert tiny("works")(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_a_name_of_two_packages_is_refused_when_the_model_is_built(fake_plugin):
    for package in ("first", "second"):
        source = "from torch import nn\nclass Factory(nn.Identity): ..."
        fake_plugin(
            name=package,
            entry_points={MIXERS: {"my": f"{package}_mixers:Factory"}},
            modules={f"{package}_mixers": source},
        )
    with pytest.raises(AmbiguousNameError, match="write 'first/my' or 'second/my'"):
        tiny("my")
    assert mixers_of(tiny("first/my"))[0].__class__.__module__ == "first_mixers"


def test_a_factory_from_python_is_named_in_messages():
    with pytest.raises(BrokenPluginError, match=r"^token mixer 'Flatten' cannot mix|^token mixer 'Flatten' must"):
        tiny(nn.Flatten)


# ---- the trial leaves no trace


class Stateful(nn.Module):
    """A mixer with statistics, a frozen part and a draw of random numbers."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.frozen = nn.BatchNorm2d(dim).eval()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.frozen(self.norm(x)))


def test_the_trial_leaves_modes_statistics_and_gradients_as_they_were():
    for mixer in mixers_of(tiny(Stateful)):
        assert (mixer.training, mixer.norm.training, mixer.frozen.training) == (True, True, False)
        assert mixer.norm.num_batches_tracked == 0
        assert not mixer.norm.running_mean.any()
        assert all(parameter.grad is None for parameter in mixer.parameters())


def test_the_trial_draws_no_random_numbers():
    states = []
    for mixer in (Stateful, "identity"):
        torch.manual_seed(0)
        tiny(mixer)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_mixer_is_tried_on_the_device_it_is_built_on():
    with torch.device("meta"):
        assert {parameter.device.type for parameter in tiny("depthwise").parameters()} == {"meta"}


# ---- resolution


class FullyConnected(nn.Module):
    """A mixer that works for one number of tokens."""

    def __init__(self, dim: int, *, resolution: tuple[int, int], bias: bool = True):
        super().__init__()
        self.resolution = resolution
        self.linear = nn.Linear(resolution[0] * resolution[1], resolution[0] * resolution[1], bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2)).unflatten(2, x.shape[2:])


@pytest.mark.parametrize(("side", "sides"), [(224, [56, 28, 14, 14, 7]), (64, [16, 8, 4, 4, 2])])
def test_a_mixer_that_depends_on_the_tokens_gets_their_number(side, sides):
    with torch.device("meta"):
        mixers = mixers_of(tiny(FullyConnected, image_size=side))
    assert [mixer.resolution for mixer in mixers] == [(side, side) for side in sides]


def test_a_mixer_with_resolution_runs_at_the_image_size_it_was_built_for():
    assert tiny(functools.partial(FullyConnected, bias=False), image_size=64)(torch.randn(2, 3, 64, 64)).shape == (
        2,
        10,
    )


def test_resolve_tells_which_mixers_depend_on_the_tokens():
    assert [mixer.takes_resolution for mixer in resolve([FullyConnected, "pooling", Shift, "attention"])] == [
        True,
        False,
        False,
        False,
    ]
