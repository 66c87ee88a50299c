"""Equal tuning: what is trained to choose, and what is chosen, by results made up."""

from dataclasses import replace
from pathlib import Path

import pytest
from ablations import RESULT

from poolformer.ablation import tries
from poolformer.ablation.grid import read_grid
from poolformer.ablation.rows import Row
from poolformer.errors import ConfigError, PoolformerError

GRID = read_grid(["model.lr=1e-3,2e-3,1e30"], share=0.1, seeds=[0, 1])


def planned(tmp_path: Path, **scores: tuple[float | None, ...]) -> list[tries.Try]:
    """Tries of a row that have ended: their top-1, or None for a loss that was not finite."""
    found = tries.plan(GRID, Row("base"), ["--config", "digits"], tmp_path)
    for each in found:
        ended = scores.get(each.point.values[0][1].replace("-", "_").replace("1e", "e").replace("2e", "f"), ())
        if each.run.seed < len(ended):
            each.run.directory.mkdir(parents=True)
            top1 = ended[each.run.seed]
            if top1 is None:
                each.run.save_divergence("the loss is not finite")
            else:
                each.run.save(replace(RESULT, top1=top1))
    return found


def test_a_try_is_a_run_of_fit_on_the_training_images_less_a_part_in_a_folder_of_its_row(tmp_path):
    found = tries.plan(GRID, Row("base"), ["--config", "digits"], tmp_path)
    assert [each.run.seed for each in found] == [0, 0, 0, 1, 1, 1]
    assert found[1].run.directory == tmp_path / "base" / "tries" / "model.lr=2e-3" / "seed-0"
    assert found[1].run.arguments[:4] == ("--config", "digits", "--data.tune_share=0.1", "--model.lr=2e-3")


def test_the_best_mean_over_the_seeds_is_chosen_and_divergence_is_not(tmp_path):
    choice = tries.choose(GRID, "base", planned(tmp_path, e_3=(0.5, 0.6), f_3=(0.8, 0.2), e30=(0.99, None)))
    assert choice.point.name == "model.lr=1e-3"
    assert choice.edges == ["model.lr=1e-3 is the smallest that was tried"]
    assert choice.said.endswith("(model.lr=1e-3 is the smallest that was tried: one beyond may be better)")
    first, own, edge = tries.notes([choice])
    assert "model.lr 1e-3, 2e-3, 1e30; seeds 0, 1" in first
    assert "without 10 % of the training images" in first
    assert own == "base: 1e-3 of 1e-3 55.00 %, 2e-3 50.00 %, 1e30 diverged"
    assert edge.startswith("at the edge of what was tried, so that a value beyond may be better: base (")


def test_of_equal_values_the_first_is_chosen(tmp_path):
    choice = tries.choose(GRID, "base", planned(tmp_path, e_3=(0.5, 0.5), f_3=(0.5, 0.5), e30=(0.1, 0.1)))
    assert choice.point.name == "model.lr=1e-3"
    assert "base: 1e-3, the first of equals, of 1e-3 50.00 %, 2e-3 50.00 %, 1e30 10.00 %" in tries.notes([choice])


def test_without_the_outcome_of_every_try_nothing_is_chosen(tmp_path):
    found = planned(tmp_path, e_3=(0.5, 0.6), f_3=(0.8,), e30=(None, None))
    assert [each.is_over for each in found] == [True, True, True, True, False, True]
    choices, failures = tries.choose_all(GRID, ["base"], found)
    assert choices == {}
    assert failures["base"].startswith("nothing is chosen, as tries failed: model.lr=2e-3")
    with pytest.raises(PoolformerError, match="the loss was not finite with any of the values tried"):
        tries.choose(GRID, "base", planned(tmp_path / "all", e_3=(None, 0.1), f_3=(None, None), e30=(0.1, None)))


def test_only_what_has_no_outcome_is_trained(tmp_path):
    found, said, launched = planned(tmp_path, e_3=(0.5, 0.6), f_3=(0.8,), e30=(None, None)), [], []

    def launch(runs, report):
        launched.extend(runs)
        runs[0].directory.mkdir(parents=True)
        runs[0].save(replace(RESULT, top1=0.7))
        report(0, None)

    tries.train(found, launch, said.append)
    assert [run.directory for run in launched] == [found[4].run.directory]
    assert said == [
        "tries: 6, finished before: 5",
        "[1/1] base with model.lr=2e-3, seed 1: 70.00 % of the part held out, after 2 s",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"class_path": "a.Mine", "init_args": {}},
            "which Mine cannot hold out; these can: DigitsData",
        ),
        (None, "these can: DigitsData, FolderData, FFCVData, and data of your own with an option tune_share"),
        (
            {"class_path": "a.B", "init_args": {"tune_share": 0.2}},
            "--data.tune_share 0.2 would be of every fit; with",
        ),
    ],
)
def test_data_that_cannot_hold_out_a_part_is_told(data, message):
    with pytest.raises(ConfigError) as refused:
        tries.check_data({"data": data})
    assert message in str(refused.value)
