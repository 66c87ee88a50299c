"""The listing of backbones."""

import contextlib
import io
import json
import subprocess
import sys

from poolformer import __version__
from poolformer.cli import dispatch as cli
from poolformer.registry import DISTRIBUTION
from poolformer.sizes import PAPER_TOP1

OURS = f"{DISTRIBUTION} {__version__}"


# arXiv 2111.11418, table 1: parameters in millions and MACs in G of the second version of the paper.
PAPER = {
    "poolformer_s12": (12, 1.8),
    "poolformer_s24": (21, 3.4),
    "poolformer_s36": (31, 5.0),
    "poolformer_m36": (56, 8.8),
    "poolformer_m48": (73, 11.6),
}


def test_models_of_ours_are_listed_without_pytorch():
    listed = [sys.executable, "-X", "importtime", "-m", "poolformer", "models", *PAPER]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + len(PAPER) + 2
    assert " torch\n" not in done.stderr


def test_models_lists_the_paper_s_sizes_costs_and_accuracies(listing, ours_alone):
    code, out, _ = listing("models", "--json", *PAPER)
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    for name, (parameters_m, macs_g) in PAPER.items():
        assert round(rows[name]["parameters"] / 1e6) == parameters_m
        assert round(rows[name]["macs"] / 1e9, 1) == macs_g
        assert rows[name]["paper_top1"] == PAPER_TOP1[name]
        assert rows[name]["origin"] == OURS


def test_models_prints_a_table(listing):
    code, out, _ = listing("models", "poolformer_tiny", "poolformer_s12")
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


def test_models_names_a_broken_backbone_and_lists_the_others(listing, fake_plugin):
    fake_plugin(
        name="broken-dist",
        entry_points={"poolformer.backbones": {"broken": "broken_backbone:make"}},
        modules={"broken_backbone": "import a_missing_dependency"},
    )
    code, out, _ = listing("models")
    assert code == 0
    assert "cannot be built" in next(line for line in out.splitlines() if line.startswith("broken "))
    assert set(PAPER) <= {line.split()[0] for line in out.splitlines() if line}
    why = "backbone 'broken' of broken-dist 1.0 (broken_backbone:make) cannot be loaded: ModuleNotFoundError"
    assert why in out
    code, out, err = listing("models", "broken")
    assert (code, out) == (2, "")
    assert why in err
