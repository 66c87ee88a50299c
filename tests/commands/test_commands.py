"""The listings: ``models``, ``mixers`` and ``configs``."""

import contextlib
import io
import json
import re
import sys
import warnings
from importlib.metadata import version

import pytest

from poolformer.backbones import PAPER_TOP1
from poolformer.cli import dispatch as cli
from poolformer.configs import config_dir, config_names

OURS = f"poolformer {version('poolformer')}"
MIXER = '''
from torch import nn


class Mixer(nn.Conv2d):
    """One weight for each channel and token.

    More that a listing need not say.
    """

    def __init__(self, dim: int, scale: float = 0.5, bias: bool = True):
        super().__init__(dim, dim, 1, bias=bias)
'''


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call a command in this process, in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(arguments))
        except SystemExit as left:  # argparse
            code = left.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def ours_alone(monkeypatch):
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")


def test_mixers_lists_names_with_package_version_and_factory(call, ours_alone):
    code, out, err = call("mixers")
    assert (code, err) == (0, "")
    rows = [line.split("  ") for line in out.splitlines()[:4]]
    assert [row[0] for row in rows] == ["attention", "depthwise", "identity", "pooling"]
    assert [line.split() for line in out.splitlines()][3] == [
        "pooling",
        *OURS.split(),
        "poolformer.network.mixers:Pooling",
    ]
    assert out.rstrip().endswith("use it with --model.mixer NAME.")


def test_mixers_as_json_is_the_same_table(call, ours_alone):
    _, out, _ = call("mixers", "--json")
    rows = json.loads(out)
    built_in = ["attention", "depthwise", "identity", "pooling", "random_matrix", "spatial_fc"]
    assert [row["name"] for row in rows] == built_in
    assert rows[3] == {
        "name": "pooling",
        "package": "poolformer",
        "version": version("poolformer"),
        "factory": "poolformer.network.mixers:Pooling",
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pooling", ["pool_size: int = 3"]),
        ("identity", ["none"]),
        ("depthwise", ["kernel_size: int = 3", "bias: bool = True"]),
        ("attention", ["head_dim: int = 32", "qkv_bias: bool = False"]),
    ],
)
def test_mixers_shows_what_one_takes(call, name, options):
    code, out, _ = call("mixers", name)
    title, summary, _, heading, *listed = out.splitlines()
    assert code == 0
    assert title.startswith(f"{name}  ({OURS}, poolformer.network.mixers:")
    assert summary.endswith(".")
    assert heading == "options:"
    assert [line.strip() for line in listed] == options


def test_mixers_shows_one_as_json(call):
    _, out, _ = call("mixers", "depthwise", "--json")
    (row,) = json.loads(out)
    assert row["name"] == "depthwise"
    assert row["options"] == {"kernel_size": "kernel_size: int = 3", "bias": "bias: bool = True"}
    assert row["summary"].startswith("Depthwise convolution, a learned filter for each channel")


def test_mixers_lists_a_plugin_without_importing_it(call, fake_plugin):
    fake_plugin(
        name="My_Dist",
        version="2.1",
        entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}},
        modules={"conv_one": MIXER},
    )
    _, out, _ = call("mixers")
    assert ["conv1", "my-dist", "2.1", "conv_one:Mixer"] in [line.split() for line in out.splitlines()]
    assert "conv_one" not in sys.modules
    _, out, _ = call("mixers", "conv1")
    assert out.splitlines()[0] == "conv1  (my-dist 2.1, conv_one:Mixer)"
    assert out.splitlines()[1] == "One weight for each channel and token."
    assert [line.strip() for line in out.splitlines()[4:]] == ["scale: float = 0.5", "bias: bool = True"]
    assert call("mixers", "my-dist/conv1")[0] == 0


def test_mixers_shows_a_factory_in_the_current_directory(call, tmp_path, monkeypatch):
    (tmp_path / "of_today.py").write_text(MIXER)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    try:
        code, out, _ = call("mixers", "of_today:Mixer")
    finally:
        sys.modules.pop("of_today", None)
    assert code == 0
    assert out.startswith("of_today:Mixer  (of_today:Mixer)\nOne weight for each channel and token.\n")


def test_mixers_gives_a_shared_name_to_neither_package(call, fake_plugin):
    for name in ("one", "two"):
        fake_plugin(name=name, entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}})
    fake_plugin(name="loud", entry_points={"poolformer.mixers": {"pooling": "conv_one:Mixer"}})
    _, out, _ = call("mixers")
    names = {line.split()[0]: line.split()[1] for line in out.splitlines()[:-2]}
    assert names["one/conv1"] == "one"
    assert names["two/conv1"] == "two"
    assert names["pooling"] == "poolformer"
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
def test_a_broken_plugin_is_named_with_its_package_when_asked_for(call, fake_plugin, source, found):
    fake_plugin(
        name="broken-dist",
        version="0.3",
        entry_points={"poolformer.mixers": {"broken": "broken_one:Mixer"}},
        modules={"broken_one": source},
    )
    assert call("mixers")[0] == 0
    assert call("mixers", "pooling")[0] == 0
    code, out, err = call("mixers", "broken")
    assert (code, out) == (2, "")
    assert err.startswith(
        "poolformer: error: token mixer 'broken' of broken-dist 0.3 (broken_one:Mixer) cannot be loaded"
    )
    assert found in err
    assert err.count("\n") == 1


def test_mixers_with_plugins_turned_off_are_ours(call, fake_plugin, monkeypatch):
    fake_plugin(entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}})
    assert "conv1" in call("mixers")[1]
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    assert "conv1" not in call("mixers")[1]
    code, _, err = call("mixers", "conv1")
    assert code == 2
    assert "Plugins are turned off by POOLFORMER_DISABLE_PLUGINS." in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixers", "poling"], "no token mixer is called 'poling'. Did you mean 'pooling'? "),
        (["models", "poolformer_s11"], "no backbone is called 'poolformer_s11'. Did you mean 'poolformer_s12'"),
        pytest.param(
            ["models", "timm/resnet81"],
            "no model 'resnet81'. Did you mean 'resnet18'",
            marks=[
                pytest.mark.slow,  # imports timm
            ],
        ),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


# arXiv 2111.11418, table 1: parameters in millions and MACs in G of the second version of the paper.
PAPER = {
    "poolformer_s12": (12, 1.8),
    "poolformer_s24": (21, 3.4),
    "poolformer_s36": (31, 5.0),
    "poolformer_m36": (56, 8.8),
    "poolformer_m48": (73, 11.6),
}


def test_models_lists_the_paper_s_sizes_costs_and_accuracies(call, ours_alone):
    code, out, _ = call("models", "--json", *PAPER)
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    for name, (parameters_m, macs_g) in PAPER.items():
        assert round(rows[name]["parameters"] / 1e6) == parameters_m
        assert round(rows[name]["macs"] / 1e9, 1) == macs_g
        assert rows[name]["paper_top1"] == PAPER_TOP1[name]
        assert rows[name]["origin"] == OURS


def test_models_prints_a_table(call):
    code, out, _ = call("models", "poolformer_tiny", "poolformer_s12")
    header, tiny, s12 = out.splitlines()[:3]
    assert code == 0
    assert header.split() == ["backbone", "parameters", "MACs", "paper's", "top-1", "package"]
    assert tiny.startswith("poolformer_tiny ")
    assert "%" not in tiny
    assert s12.split() == ["poolformer_s12", "11,915,176", "1.823", "G", "77.2", "%", *OURS.split()]


def test_models_are_printed_as_they_are_counted(on_path, tmp_path):
    """The second row cannot be counted, and the first is there."""
    (tmp_path / "stops.py").write_text("def net(num_classes: int):\n    raise KeyboardInterrupt\n")
    on_path(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main(["models", "poolformer_tiny", "stops:net"]) == 130
    assert printed.getvalue().splitlines()[1].startswith("poolformer_tiny ")


@pytest.mark.slow
def test_models_names_a_broken_backbone_and_lists_the_others(call, fake_plugin):
    fake_plugin(
        name="broken-dist",
        entry_points={"poolformer.backbones": {"broken": "broken_backbone:make"}},
        modules={"broken_backbone": "import a_missing_dependency"},
    )
    code, out, _ = call("models")
    assert code == 0
    assert "cannot be built" in next(line for line in out.splitlines() if line.startswith("broken "))
    assert set(PAPER) <= {line.split()[0] for line in out.splitlines() if line}
    why = "backbone 'broken' of broken-dist 1.0 (broken_backbone:make) cannot be loaded: ModuleNotFoundError"
    assert why in out
    code, out, err = call("models", "broken")
    assert (code, out) == (2, "")
    assert why in err


def test_configs_lists_every_packaged_file_with_its_first_line(call):
    code, out, _ = call("configs")
    assert code == 0
    assert out.endswith(f"\n\nFiles: {config_dir()}\n")
    rows = out.rpartition("\n\n")[0]
    alone, *overlays = re.split(r"\n\nOver another, such as --config s12 --config (\w+)/...:\n", rows)
    groups = {"": alone, **dict(zip(overlays[::2], overlays[1::2], strict=True))}
    listed = []
    for folder, rows in groups.items():
        for row in rows.splitlines():
            name, headline = row.split(maxsplit=1)
            assert name.rpartition("/")[0] == folder
            assert headline
            listed.append(name)
    assert sorted(listed) == config_names()


def test_a_command_s_warnings_are_a_line(call, monkeypatch):
    def warn(argv: list[str]) -> int:
        print(warnings.formatwarning("it differs", UserWarning, "some.py", 1, "rank_zero_warn(it)"))
        return 0

    before = warnings.formatwarning
    monkeypatch.setattr("poolformer.commands.configs.main", warn)
    assert call("configs")[1] == "warning: it differs\n\n"
    assert warnings.formatwarning is before


@pytest.mark.parametrize("command", ["models", "mixers", "configs"])
def test_an_unknown_option_is_two_lines_and_code_2(call, command):
    code, out, err = call(command, "--no-such-option")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"poolformer {command}: error: unrecognized arguments: --no-such-option"
    assert len(err.splitlines()) <= 3
