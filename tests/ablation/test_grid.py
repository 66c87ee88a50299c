"""Grids as they are written behind --try, and what is refused of them."""

import pytest

from poolformer.ablation.grid import Point, check_grid, read_grid
from poolformer.ablation.rows import find_row
from poolformer.errors import ConfigError


def read(*texts: str):
    return read_grid(texts, share=0.1, seeds=[0, 1, 0])


def test_every_combination_of_the_values_is_a_point():
    grid = read("model.lr=1e-3,2e-3", "--model.weight_decay=0,0.05")
    assert [point.name for point in grid.points] == [
        "model.lr=1e-3, model.weight_decay=0",
        "model.lr=1e-3, model.weight_decay=0.05",
        "model.lr=2e-3, model.weight_decay=0",
        "model.lr=2e-3, model.weight_decay=0.05",
    ]
    assert grid.points[1].flags == ["--model.lr=1e-3", "--model.weight_decay=0.05"]
    assert grid.seeds == (0, 1)
    assert read() is None


def test_commas_inside_of_a_value_are_its_own():
    grid = read("data.scale=[0.08, 1],[0.35,1]", "model.mixer={name: pooling, pool_size: 3},attention,'a,b'")
    assert grid.options[0][1] == ("[0.08, 1]", "[0.35,1]")
    assert grid.options[1][1] == ("{name: pooling, pool_size: 3}", "attention", "'a,b'")


def test_folders_of_points_are_told_apart():
    values = ["1e-3", "[1, 2]", "[1-2]", "a/b", "a-b", "x" * 300, "x" * 299]
    folders = [Point((("model.lr", value),)).folder for value in values]
    assert folders[0] == "model.lr=1e-3"
    assert len(set(folders)) == len(values)
    assert all("/" not in folder and len(folder) < 200 for folder in folders)


@pytest.mark.parametrize(
    ("values", "chosen", "edges"),
    [
        ("2e-3,1e-3,4e-3", "2e-3", []),
        ("2e-3,1e-3,4e-3", "1e-3", ["model.lr=1e-3 is the smallest that was tried"]),
        ("2e-3,1e-3,0.004", "0.004", ["model.lr=0.004 is the largest that was tried"]),
        ("null,1e-3,2e-3", "null", []),
        ("null,0.75", "0.75", []),
        ("gelu,relu", "relu", []),
    ],
)
def test_a_choice_at_the_edge_of_the_numbers_is_found(values, chosen, edges):
    assert read(f"model.lr={values}").edges(Point((("model.lr", chosen),))) == edges


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["model.lr"], "--try model.lr: expects OPTION=VALUE,VALUE, such as model.lr=1e-3,2e-3"),
        (["model.lr=1,,2"], "--try model.lr=1,,2: expects OPTION=VALUE,VALUE"),
        (["=1,2"], "--try =1,2: expects OPTION=VALUE,VALUE"),
        (["model.lr=1e-3"], "one value leaves no choice"),
        (["model.lr=1e-3,0.001,2"], "1e-3 more than once"),
        (["model.lr=1,2", "model.lr=3,4"], "--try model.lr: more than once"),
        (["data.init_args.val=a,b"], "it says which images there are"),
        (["seed_everything=1,2"], "--seed_everything is not for every fit; use --seeds"),
    ],
)
def test_what_is_no_grid_is_said_in_a_line(texts, message):
    with pytest.raises(ConfigError) as refused:
        read(*texts)
    assert message in str(refused.value)


def test_a_grid_goes_with_rows_and_flags_that_leave_its_options_alone():
    grid = read("model.act=gelu,silu")
    check_grid(grid, [find_row("base"), find_row("identity")], ["--model.lr", "1"])
    with pytest.raises(ConfigError, match=r"--try model\.act replaces what the row act-relu changes"):
        check_grid(grid, [find_row("base"), find_row("act-relu")], [])
    with pytest.raises(ConfigError, match=r"--model is for every fit, and --try model\.act chooses it"):
        check_grid(grid, [], ["--model={lr: 1}"])
