"""The listing of mixers."""

import json
import sys

import pytest

from poolformer import __version__
from poolformer.registry import DISTRIBUTION

OURS = f"{DISTRIBUTION} {__version__}"


MIXER = '''
from torch import nn


class Mixer(nn.Conv2d):
    """One weight for each channel and token.

    More that a listing need not say.
    """

    def __init__(self, dim: int, scale: float = 0.5, bias: bool = True):
        super().__init__(dim, dim, 1, bias=bias)
'''


def test_mixers_lists_names_with_package_version_and_factory(listing, ours_alone):
    code, out, err = listing("mixers")
    assert (code, err) == (0, "")
    rows = [line.split("  ") for line in out.splitlines()[:4]]
    assert [row[0] for row in rows] == ["attention", "depthwise", "identity", "pooling"]
    assert [line.split() for line in out.splitlines()][3] == [
        "pooling",
        *OURS.split(),
        "poolformer.network.mixers:Pooling",
    ]
    assert out.rstrip().endswith("use it with --model.mixer NAME.")


def test_mixers_as_json_is_the_same_table(listing, ours_alone):
    _, out, _ = listing("mixers", "--json")
    rows = json.loads(out)
    built_in = ["attention", "depthwise", "identity", "pooling", "random_matrix", "separable_conv", "spatial_fc"]
    assert [row["name"] for row in rows] == built_in
    assert rows[3] == {
        "name": "pooling",
        "package": DISTRIBUTION,
        "version": __version__,
        "factory": "poolformer.network.mixers:Pooling",
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pooling", ["pool_size: int = 3"]),
        ("identity", ["none"]),
        ("depthwise", ["kernel_size: int = 3", "bias: bool = True"]),
        ("attention", ["head_dim: int = 32", "qkv_bias: bool = False", "proj_bias: bool = True"]),
    ],
)
def test_mixers_shows_what_one_takes(listing, name, options):
    code, out, _ = listing("mixers", name)
    title, summary, _, heading, *listed = out.splitlines()
    assert code == 0
    assert title.startswith(f"{name}  ({OURS}, poolformer.network.mixers:")
    assert summary.endswith(".")
    assert heading == "options:"
    assert [line.strip() for line in listed] == options


def test_mixers_shows_one_as_json(listing):
    _, out, _ = listing("mixers", "depthwise", "--json")
    (row,) = json.loads(out)
    assert row["name"] == "depthwise"
    assert row["options"] == {"kernel_size": "kernel_size: int = 3", "bias": "bias: bool = True"}
    assert row["summary"].startswith("Depthwise convolution, a learned filter for each channel")


def test_mixers_lists_a_plugin_without_importing_it(listing, fake_plugin):
    fake_plugin(
        name="My_Dist",
        version="2.1",
        entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}},
        modules={"conv_one": MIXER},
    )
    _, out, _ = listing("mixers")
    assert ["conv1", "my-dist", "2.1", "conv_one:Mixer"] in [line.split() for line in out.splitlines()]
    assert "conv_one" not in sys.modules
    _, out, _ = listing("mixers", "conv1")
    assert out.splitlines()[0] == "conv1  (my-dist 2.1, conv_one:Mixer)"
    assert out.splitlines()[1] == "One weight for each channel and token."
    assert [line.strip() for line in out.splitlines()[4:]] == ["scale: float = 0.5", "bias: bool = True"]
    assert listing("mixers", "my-dist/conv1")[0] == 0


def test_mixers_shows_a_factory_in_the_current_directory(listing, tmp_path, monkeypatch):
    (tmp_path / "of_today.py").write_text(MIXER)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    try:
        code, out, _ = listing("mixers", "of_today:Mixer")
    finally:
        sys.modules.pop("of_today", None)
    assert code == 0
    assert out.startswith("of_today:Mixer  (of_today:Mixer)\nOne weight for each channel and token.\n")


def test_mixers_gives_a_shared_name_to_neither_package(listing, fake_plugin):
    for name in ("one", "two"):
        fake_plugin(name=name, entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}})
    fake_plugin(name="loud", entry_points={"poolformer.mixers": {"pooling": "conv_one:Mixer"}})
    _, out, _ = listing("mixers")
    names = {line.split()[0]: line.split()[1] for line in out.splitlines()[:-2]}
    assert names["one/conv1"] == "one"
    assert names["two/conv1"] == "two"
    assert names["pooling"] == DISTRIBUTION
    assert names["loud/pooling"] == "loud"
    assert "conv1" not in names


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a_missing_dependency", "ModuleNotFoundError: No module named 'a_missing_dependency'"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package_when_asked_for(listing, fake_plugin, source, found):
    fake_plugin(
        name="broken-dist",
        version="0.3",
        entry_points={"poolformer.mixers": {"broken": "broken_one:Mixer"}},
        modules={"broken_one": source},
    )
    assert listing("mixers")[0] == 0
    assert listing("mixers", "pooling")[0] == 0
    code, out, err = listing("mixers", "broken")
    assert (code, out) == (2, "")
    assert err.startswith(
        "poolformer: error: token mixer 'broken' of broken-dist 0.3 (broken_one:Mixer) cannot be loaded"
    )
    assert found in err
    assert err.count("\n") == 1


def test_mixers_with_plugins_turned_off_are_ours(listing, fake_plugin, monkeypatch):
    fake_plugin(entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}})
    assert "conv1" in listing("mixers")[1]
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    assert "conv1" not in listing("mixers")[1]
    code, _, err = listing("mixers", "conv1")
    assert code == 2
    assert "Plugins are turned off by POOLFORMER_DISABLE_PLUGINS." in err
