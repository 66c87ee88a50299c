"""Which token mixer a configuration means where a later one or a flag chooses another backbone."""

import warnings

import pytest

from poolformer.cli.model_section import (
    warn_of_dropped,
    with_names_from_before,
    with_names_in_flags,
    with_names_in_mappings,
    without_foreign_mixers,
)

S12 = {"model": {"backbone": "poolformer_s12", "mixer": {"name": "pooling"}, "lr": 0.1}}
POOL_5 = {"model": {"backbone": "poolformer_s12", "mixer": {"name": "pooling", "pool_size": 5}}}
IDENTITY = {"model": {"mixer": {"name": "identity"}}}
BARE = {"model": {"backbone": "poolformer_s12", "lr": 0.1}}


@pytest.mark.parametrize(
    ("contents", "flags", "expected"),
    [
        ([S12], [], [S12]),
        ([S12], ["--model.backbone", "poolformerv2_s12"], [S12]),  # which takes any mixer
        ([S12], ["--model.backbone", "identityformer_s12"], [BARE]),
        ([S12], ["--model.backbone", "convformer_s18"], [BARE]),  # which would take it, but has its own
        ([POOL_5], ["--model.backbone", "convformer_s18"], [POOL_5]),  # which is not that of poolformer_s12 alone
        ([S12, IDENTITY], ["--model.backbone", "convformer_s18"], [BARE, IDENTITY]),
        ([S12], ["--model.backbone=timm/resnet18"], [BARE]),
        ([S12, {"model": {"backbone": "timm/resnet18"}}], [], [BARE, {"model": {"backbone": "timm/resnet18"}}]),
        ([S12], ["--model.backbone", "no_such_backbone"], [S12]),
    ],
)
def test_a_mixer_goes_with_the_backbone_beside_it(contents, flags, expected):
    assert without_foreign_mixers(contents, flags) == expected


def test_a_mixer_beside_a_backbone_without_a_choice_stays_and_is_refused_there():
    odd = {"model": {"backbone": "identityformer_s12", "mixer": {"name": "pooling"}}}
    assert without_foreign_mixers([odd], []) == [odd]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--model.mixer shift --model.mixer.shift 2", '--model.mixer={"name":"shift"} --model.mixer.shift 2'),
        (
            "--model.mixer=m.n:F --model.lr 1 --model.mixer.a=2",
            '--model.mixer={"name":"m.n:F"} --model.lr 1 --model.mixer.a=2',
        ),
        (
            "--model.optimizer sgd --model.optimizer.momentum 0",
            '--model.optimizer={"name":"sgd"} --model.optimizer.momentum 0',
        ),
        *(
            (same, same)
            for same in ("--model.mixer shift --model.optimizer.momentum 0", "--model.mixer.a 2 --model.mixer b")
        ),
        *(
            (same, same)
            for same in ("--model.mixer null --model.mixer.a 2", "--model.mixer {name:b} --model.mixer.a 2")
        ),
    ],
)
def test_a_flag_s_name_is_in_a_mapping_where_a_later_flag_adds_an_option(flags, expected):
    assert [word.replace(": ", ":") for word in with_names_in_flags(flags.split())] == expected.split()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--model.mixer.a 2 --model.mixer b", "--model.mixer.a 2 has no effect, as --model.mixer b stands behind it"),
        (
            "--model.mixer.a=2 --model.lr 1 --model.mixer.c --model.mixer={name:b}",
            "--model.mixer.a=2 --model.mixer.c has no effect, as --model.mixer={name:b} stands behind it",
        ),
        (
            "--model.optimizer.momentum 0 --model.optimizer sgd",
            "--model.optimizer.momentum 0 has no effect, as --model.optimizer sgd stands behind it",
        ),
        (
            "--model.mixer b --model.mixer.a 2 --model.mixer c",
            "--model.mixer.a 2 has no effect, as --model.mixer c stands behind it",
        ),
        ("--model.mixer b --model.mixer.a 2", None),
        ("--model.mixer.a 2 --model.mixer.name b", None),
        ("--model.mixer.a 2 --model.optimizer sgd", None),
    ],
)
def test_options_before_a_name_are_told(flags, told):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_dropped(flags.split())
    assert [str(one.message) for one in caught] == [told] * (told is not None)


def test_a_file_s_name_is_in_a_mapping_where_a_flag_adds_an_option():
    contents = [{"model": {"mixer": "shift", "optimizer": "sgd"}}, {"model": {"mixer": ["a"] * 4}}, {"model": None}, {}]
    found = with_names_in_mappings(contents, ["--model.mixer.shift", "2"])
    assert found == [{"model": {"mixer": {"name": "shift"}, "optimizer": "sgd"}}, *contents[1:]]
    assert with_names_in_mappings(contents, ["--model.mixer", "shift"]) == contents


ADDED = [
    (["pooling", {"pool_size": 5}], {"name": "pooling", "pool_size": 5}),
    ([{"name": "pooling", "pool_size": 3}, {"pool_size": 5}], {"name": "pooling", "pool_size": 5}),
    ([{"name": "pooling", "pool_size": 3}, None, {"pool_size": 5}], {"name": "pooling", "pool_size": 5}),
    (["pooling", {"name": "depthwise"}], {"name": "depthwise"}),
    ([["pooling"] * 4, {"pool_size": 5}], {"pool_size": 5}),
    ([{"pool_size": 5}], {"pool_size": 5}),
    (["pooling", "depthwise"], "depthwise"),
]


@pytest.mark.parametrize(("mixers", "expected"), ADDED)
@pytest.mark.parametrize("option", ["mixer", "optimizer"])
def test_options_without_a_name_add_to_the_file_before(mixers, expected, option):
    contents = [{"model": {option: mixer}} if mixer else {} for mixer in mixers]
    assert with_names_from_before(contents)[-1]["model"][option] == expected
