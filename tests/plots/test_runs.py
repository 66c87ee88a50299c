"""Runs found below folders, and which of them are seeds of one configuration."""

from pathlib import Path

import pytest
from logged import write_events, write_run

from poolformer.plots.runs import _configuration, find_runs, grouped, series

ATTENTION = {"mixer": "attention"}


def names(folder: Path) -> dict[str, list[int | None]]:
    return {name: [run.seed for run in runs] for name, runs in grouped(find_runs([folder])).items()}


def test_seeds_of_a_row_are_together_wherever_their_directories_are(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "pooling" / f"seed-{seed}", [0.5], seed=seed)
        write_run(tmp_path / "attention" / f"seed-{seed}", [0.5], seed=seed, model=ATTENTION)
    write_run(tmp_path / "pooling" / "seed-0" / "previous" / "1", [0.1], seed=5)
    write_run(tmp_path / "pooling" / "tries" / "model.lr=1e-3" / "seed-0", [0.1], seed=6)
    assert names(tmp_path) == {"attention": [0, 1], "pooling": [0, 1]}
    assert names(tmp_path / "pooling") == {"pooling": [0, 1]}
    assert names(tmp_path / "pooling" / "seed-0") == {"seed-0": [0]}


def test_single_runs_have_the_names_that_tell_them_apart(tmp_path):
    for row, model in (("pooling", None), ("attention", ATTENTION)):
        write_run(tmp_path / row / "seed-0", [0.5], model=model)
    assert list(names(tmp_path)) == ["attention", "pooling"]


def test_seeds_beside_each_other_are_named_by_what_their_names_begin_with(tmp_path):
    for row, model in (("a", None), ("b", ATTENTION)):
        for seed in (0, 1):
            write_run(tmp_path / f"{row}-seed{seed}", [0.5], seed=seed, model=model)
    assert names(tmp_path) == {"a": [0, 1], "b": [0, 1]}


def test_runs_of_one_seed_and_configuration_are_compared_and_not_averaged(tmp_path):
    for folder in ("before", "after"):
        for seed in (0, 1):
            write_run(tmp_path / folder / f"seed-{seed}", [0.5], seed=seed)
    assert names(tmp_path) == {"after": [0, 1], "before": [0, 1]}
    for name in ("x", "y"):
        write_run(tmp_path / "same" / name, [0.5])
    assert names(tmp_path / "same") == {"x": [0], "y": [0]}


def test_events_without_a_configuration_are_a_run_of_their_own(tmp_path):
    for name in ("one", "two"):
        write_events(tmp_path / name / "events.out.tfevents.1.host", {"val/top1": {4: 0.5}})
    assert names(tmp_path) == {"one": [None], "two": [None]}


def test_runs_behind_links_are_found_once_and_a_circle_of_links_ends(tmp_path):
    write_run(tmp_path / "elsewhere" / "run", [0.5])
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere" / "run")
    (folder / "again").symlink_to(folder)
    assert [run.directory for run in find_runs([folder, folder])] == [folder / "linked"]


@pytest.mark.parametrize(
    ("epochs", "along", "points"),
    [({9: 0, 19: 1}, "epoch", [(1, 25), (2, 50)]), ({9: 0, 19: 0}, "step", [(10, 25), (20, 50)])],
)
def test_curves_lie_along_epochs_where_each_has_one_value(tmp_path, epochs, along, points):
    write_events(tmp_path / "events.out.tfevents.1.host", {"val/top1": {9: 0.25, 19: 0.5}, "epoch": epochs})
    rows, found = series(grouped(find_runs([tmp_path])), "val/top1")
    assert (found, rows[0].curves) == (along, [points])


def test_a_short_folder_of_a_run_is_cut_out_of_paths_alone():
    texts = [
        _configuration({"model": {"lr": 1}, "data": f"a/b {place}", "trainer": {"default_root_dir": place}})
        for place in ("a", "mo", "r")
    ]
    assert all('"lr"' in text and '"model"' in text for text in texts)
    inside = [
        _configuration({"data": {"train": f"{place}/x"}, "trainer": {"default_root_dir": place}})
        for place in ("a", "b")
    ]
    assert inside[0] == inside[1]
