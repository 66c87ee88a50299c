"""Rows of an ablation: the base, overlays, mixers by each of their names."""

from pathlib import Path

import pytest
from ablations import OVERLAYS, made

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation import rows as rows_of
from poolformer.ablation import runs as ablation
from poolformer.ablation.building import check_builds
from poolformer.ablation.rows import BASE, Row
from poolformer.cli.training import settings
from poolformer.configs import config_names
from poolformer.errors import AmbiguousNameError, ConfigError
from poolformer.sizes import PAPER_TOP1


def test_the_base_comes_first_among_the_rows():
    assert rows_of.row_names()[0] == BASE
    assert all(f"ablation/{name}" in config_names() for name in rows_of.row_names()[1:])


@pytest.mark.parametrize("name", rows_of.row_names()[1:])
def test_every_packaged_row_has_the_paper_s_figure_and_fits_the_digits(name):
    row = rows_of.find_row(name)
    assert 0 < row.paper_top1 < 100
    check_builds(settings("fit", ablation.fit_arguments(["digits"], row, [])))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fits"), [("norm-layer", True), ("hybrid-ppff", False), ("hybrid-pppa", False)])
def test_a_row_of_one_image_size_does_not_fit_growing_images(name, fits):
    flags = ["--data.train", "x", "--data.val", "x", "--config", "short/16"]
    grown = settings("fit", ablation.fit_arguments(["s12"], rows_of.find_row(name), flags))
    if fits:
        check_builds(grown)
        return
    with pytest.raises(ConfigError, match="so progressive resizing is not possible") as caught:
        check_builds(grown)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("# No mixing.\n# Paper: 74.3 % top-1 (table 5).\n", 74.3),
        ("# No mixing.\n#Paper: 81 %\n", 81.0),
        ("# In the paper: 74.3 %.\n", None),
        ("# Paper: not in it.\n", None),
        ("", None),
    ],
)
def test_the_paper_s_figure_is_read_from_the_header(work, header, expected):
    Path("own.yaml").write_text(f"{header}model:\n  act: relu  # Paper: 12.3 %\n")
    assert rows_of.find_row("own.yaml") == Row("own", Path("own.yaml"), expected, of_mixers=False)


def test_a_mixer_is_a_row_by_each_of_its_names(work, fake_plugin):
    for package in ("a-dist", "b-dist"):
        fake_plugin(
            name=package,
            entry_points={"poolformer.mixers": {"shared": "x:Y", f"of_{package[0]}": "x:Y", "relu.yaml": "x:Y"}},
        )
    for name in ("of_a", "a-dist/shared", "broken:Crash", "attention"):
        assert rows_of.find_row(name) == Row(name, mixer=name)
    with pytest.raises(AmbiguousNameError, match="write 'a-dist/shared' or 'b-dist/shared'"):
        rows_of.find_row("shared")
    assert rows_of.find_row("relu.yaml").overlay, "a file comes before a mixer"
    for name in ("identity", "random_matrix"):
        assert rows_of.find_row(name).paper_top1, "and a row of the paper, however its mixer is spelled"


@pytest.mark.parametrize("name", ["a-dist/shared", "broken:Crash"])
def test_the_runs_of_a_row_lie_in_one_folder(work, fake_plugin, name):
    fake_plugin(name="a-dist", entry_points={"poolformer.mixers": {"shared": "x:Y"}})
    run = ablation.plan_run(rows_of.find_row(name), 0, Path("out"), [])
    assert run.directory.parent.parent == Path("out")


@pytest.mark.slow
def test_a_file_called_base_is_not_the_base(call, work):
    Path("base.yaml").write_text(OVERLAYS["relu"])
    run = ablation.plan_run(
        row := rows_of.find_row("base.yaml"), 0, Path("out"), ablation.fit_arguments(["digits"], row, [])
    )
    made(run)
    assert "| base | 76.4 |" in call("--rows", "base.yaml", "--out", "out")[1]


@pytest.mark.slow
def test_the_row_of_a_mixer_is_the_base_with_it():
    chosen, plain = (
        settings("fit", ablation.fit_arguments(["digits"], rows_of.find_row(name), [])) for name in ("attention", BASE)
    )
    assert chosen["model"]["mixer"] == "attention"
    assert {**chosen, "model": {**chosen["model"], "mixer": plain["model"]["mixer"]}} == plain


def test_a_row_of_mixers_is_one_that_chooses_the_mixer(work):
    assert rows_of.find_row("identity.yaml").of_mixers
    assert not rows_of.find_row("relu.yaml").of_mixers
    assert rows_of.find_row(BASE).of_mixers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bass", r"there is no row, file or mixer 'bass'\. Did you mean 'base'\? Rows: base"),
        ("own/row.yaml", r"there is no row, file or mixer 'own/row.yaml'\. Rows: base.*; mixers: attention, "),
    ],
)
def test_an_unknown_row_is_said_with_the_nearest(work, given, message):
    with pytest.raises(ConfigError, match=message):
        rows_of.find_row(given)


BASES = [
    ([], 77.2),
    (["--model.mixer", "{name: pooling, pool_size: 3}"], 77.2),
    (["--model.mixer.pool_size", "5"], None),
    (["--model.mixer", "attention"], None),
    (["--model.norm", "layer"], None),
    (["--model.residual", "false"], None),
    (["--model.backbone", "timm/resnet18"], None),
]


@pytest.mark.parametrize(("flags", "expected"), BASES, ids=[" ".join(flags) for flags, _ in BASES])
def test_the_base_has_the_figure_of_s12_where_it_is_the_paper_s_network(work, flags, expected):
    # arXiv 2111.11418, table 5: the baseline of the ablation is PoolFormer-S12.
    base = rows_of.as_in_paper(Row(BASE), settings("fit", ["--config", "digits", *flags]))
    assert base.paper_top1 == expected
    assert PAPER_TOP1["poolformer_s12"] == 77.2
