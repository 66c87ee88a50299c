"""`poolformer validate-published`: what is measured and kept, and what is said of weights that fail to download."""

import json

import pytest
from huggingface_hub import constants

from poolformer.bench import published
from poolformer.errors import CheckpointError, ConfigError

IMAGES = ["--data.val", "val"]


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Run the command with evaluations that cost nothing; returns what was measured."""
    monkeypatch.chdir(tmp_path)
    measured = []

    def pretend(row, source, out, flags):
        if row.name.startswith("identityformer"):
            raise CheckpointError("timm cannot give | weights")
        measured.append((row.name, source, flags))
        return {"source": source, "images": 50000.0, "top1": 0.7724, "top5": 0.935, "loss": 1.0}

    monkeypatch.setattr(published, "_measure", pretend)
    return measured


def test_the_table_has_the_papers_numbers_and_ours_and_is_not_measured_again(measure, capsys):
    arguments = ["--rows", "poolformer_s12", "identityformer_s12", *IMAGES]
    for _ in range(2):
        assert published.main(arguments) == 0
        assert capsys.readouterr().out.splitlines()[2:] == [
            "| poolformer_s12 | 77.2 | 77.24 | +0.04 | 93.50 | 50,000 |",
            "| identityformer_s12 | 74.6 | timm cannot give / weights | | | |",
        ]
    assert measure == [("poolformer_s12", None, IMAGES)]


def test_other_options_are_not_mixed_with_what_is_kept(measure, tmp_path):
    published.main(["--rows", "poolformer_s12", *IMAGES])
    with pytest.raises(ConfigError, match=r"was measured with --data\.val val: pass these, or another --out"):
        published.main(["--rows", "poolformer_s12", *IMAGES, "--data.label_map", "subset"])
    (tmp_path / "runs" / "published" / "published.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigError, match="is not what validate-published writes"):
        published.main(["--rows", "poolformer_s12", *IMAGES])


def test_files_are_told_by_their_names(measure, tmp_path):
    names = {
        "poolformer_s12.pth.tar": "poolformer_s12",
        "caformer_s18.pth": "caformer_s18",
        "caformer_s18_384.pth": "caformer_s18.sail_in1k_384",
        "caformer_s18_in21ft1k.pth": "caformer_s18.sail_in22k_ft_in1k",
        "caformer_s18_384_in21ft1k.pth": "caformer_s18.sail_in22k_ft_in1k_384",
        "caformer_s18_in21k.pth": None,
        "notes.txt": None,
    }
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    published.main(["--rows", "poolformer_s12", "caformer_s18", "--weights", str(folder), *IMAGES])
    assert {source.rpartition("/")[2]: name for name, source, _ in measure} == {
        name: row for name, row in names.items() if row
    }
    (folder / "poolformer_s12.pth").touch()
    with pytest.raises(ConfigError, match="are both poolformer_s12"):
        published.main(["--rows", "poolformer_s12", "--weights", str(folder), *IMAGES])


def test_the_family_is_that_of_both_papers():
    rows = {row.name: row.paper for row in published.family()}
    assert len(rows) == 5 + 15 + 8 + 24
    assert rows["caformer_b36.sail_in22k_ft_in1k_384"] == 88.1  # as it is printed
    assert "resmlp_b24" not in rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "needs images: pass --data.val DIR"), (["--rows", "x", *IMAGES], "x: there are")],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        published.main(arguments)


class LocalEntryNotFoundError(Exception):
    """Of the hub, when it is not reached."""


@pytest.mark.parametrize("root", [ValueError, LocalEntryNotFoundError])
def test_a_hub_that_is_not_reached_is_asked_no_more(monkeypatch, root):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    error = CheckpointError("x")
    error.__cause__ = root()
    error.__cause__.__cause__ = error  # as of an error of ours that jsonargparse has wrapped
    published._stay_offline(error)
    assert constants.HF_HUB_OFFLINE is (root is LocalEntryNotFoundError)
