"""The table of an ablation, against figures worked out by hand."""

import csv
import io
import statistics
from dataclasses import replace

import pytest

from poolformer.ablation.rows import Row
from poolformer.ablation.runs import Result
from poolformer.ablation.table import (
    COLUMNS,
    Line,
    duration,
    markdown,
    rank_correlation,
    table,
    write_csv,
)


def line(name: str, *top1: float, paper: float | None = None, of_mixers: bool = True, **options) -> Line:
    values = {"epochs": 1, "parameters": 11_915_176, "frozen_parameters": 0, "macs": 1_822_700_000}
    values |= {"images_per_s": 1234.6, "train_s": 60.0} | options
    results = tuple(Result(top1=one, best_top1=one + 0.01, **values) for one in top1)
    return Line(Row(name, None, paper, of_mixers), results)


PAIRS = {"base": (0.5205, 0.3906), "depthwise": (0.4230, 0.5615), "one": (0.5,), "lost": ()}


def test_a_row_s_name_does_not_end_its_cell():
    header, _, row = markdown([line("a|b", 0.5)]).splitlines()
    assert row.startswith("| a\\|b |")
    assert row.replace("\\|", "").count("|") == header.count("|")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]


def test_the_table_has_a_line_for_each_row_and_names_the_paper_s_data():
    text = markdown([line("base", 0.77, 0.78, 0.76, paper=77.2), line("random", 0.5, frozen_parameters=21_133_602)])
    header, rule, base, random = cells(text)
    assert header[:4] == ["row", "paper, ImageNet, %", "ours, %", "minus base"]
    assert header[4:] == ["parameters", "MACs, G", "images/s", "train time, s"]
    assert set(rule) == {"---"}
    # The sample standard deviation of 76, 77 and 78 is 1.
    assert base == ["base", "77.2", "77.00 ± 1.00 (n=3)", "-", "11,915,176", "1.823", "1,235", "60.0"]
    assert random[1:5] == ["-", "50.00 (n=1)", "-", "11,915,176 + 21,133,602 frozen"]


def test_differences_are_paired_by_seed_to_the_row_that_is_named_and_thin_ones_are_called_thin():
    base, depthwise, one, lost = (line(name, *top1) for name, top1 in PAIRS.items())
    base, depthwise, one = replace(base, seeds=(0, 1)), replace(depthwise, seeds=(1, 0)), replace(one, seeds=(0,))
    minus = [row[3] for row in table([base, depthwise, one, lost])]
    # 3.24 and 4.10: standard error .43, t(0.975, 1) = 12.706.
    assert minus == ["minus base", "-", "+3.67 [-1.79, +9.13] (n=2, few)", "-2.05 (n=1, no interval)", "-"]
    other = [row[3] for row in table([base, depthwise, one, lost], base="depthwise")]
    assert other == ["minus depthwise", "-3.67 [-9.13, +1.79] (n=2, few)", "-", "-6.15 (n=1, no interval)", "-"]
    same = line("same", *(top1 + 0.01 for top1 in PAIRS["base"]))
    assert table([replace(base, seeds=(0, 1)), replace(same, seeds=(0, 1))])[-1][3] == "+1.00 (n=2, no interval)"
    assert "minus base" not in table([base])[0]
    assert table([])[0][0] == "row"


@pytest.mark.parametrize(
    ("seconds", "header", "shown"),
    [
        ((60.0, 30.0), "train time, s", ["60.0", "30.0"]),
        ((60.0, 180.0), "train time, min", ["1.0", "3.0"]),
        ((360.0, 9000.0), "train time, h", ["0.1", "2.5"]),
    ],
)
def test_times_of_a_table_are_in_one_unit(seconds, header, shown):
    found = table([line(str(one), 0.5, train_s=one) for one in seconds])
    assert [row[-1] for row in found] == [header, *shown]


def test_what_was_chosen_has_a_column_where_anything_was():
    header, base, other = table([replace(line("base", 0.5), chosen="model.lr=1e-3"), line("other", 0.5)])
    assert (header[4], base[4], other[4]) == ("chosen", "model.lr=1e-3", "-")


def test_a_row_without_results_is_empty_but_there():
    assert cells(markdown([line("lost", paper=74.3)]))[2] == ["lost", "74.3", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (41.4, "41 s"), (119, "119 s"), (121.6, "0:02:02"), (90_061, "1 day, 1:01:01")]
)
def test_times_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_small_networks_are_counted_in_millions():
    assert cells(markdown([line("tiny", 0.5, macs=927_872)]))[2][4] == "0.93"


def test_csv_has_plain_numbers_and_nothing_where_there_is_none(tmp_path):
    lines = [line("base", 0.75, 0.5, paper=77.2, train_s=61.5), line("one", 0.25), line("lost", paper=74.3)]
    write_csv(lines, tmp_path / "table.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    base, one, lost = rows
    assert float(base["top1_percent"]) == 62.5
    assert float(base["top1_std_percent"]) == pytest.approx(statistics.stdev([75, 50]))
    assert float(base["best_top1_percent"]) == pytest.approx(63.5)
    assert (base["seeds"], base["parameters"], base["macs"]) == ("2", "11915176", "1822700000")
    assert float(base["train_s"]) == 61.5
    assert (one["top1_percent"], one["top1_std_percent"], one["paper_top1_percent"]) == ("25.0", "", "")
    assert [lost[column] for column in COLUMNS] == ["lost", "74.3", *[""] * 3, "0", *[""] * 5, "base", *[""] * 5]
    seeded = [replace(each, seeds=(0, 1)[: len(each.results)]) for each in lines]
    write_csv(seeded, tmp_path / "table.csv", base="one")
    base, *_ = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert (base["base"], base["minus_base"], base["common_seeds"]) == ("one", "50.0", "1")


# Spearman's formula without ties, 1 - 6 * sum(d ** 2) / (n * (n ** 2 - 1)), or Pearson's over mean ranks with ties.
RANKS = [
    ([74.3, 77.2, 78.1], [0.5, 0.6, 0.7], 1.0),
    ([74.3, 77.2, 78.1], [0.7, 0.6, 0.5], -1.0),
    ([74.3, 75.8, 77.2, 78.1], [0.1, 0.3, 0.2, 0.4], 0.8),
    ([1, 2, 2, 3], [0.1, 0.2, 0.3, 0.4], 4.5 / (4.5 * 5) ** 0.5),
]


@pytest.mark.parametrize(("paper", "ours", "expected"), RANKS)
def test_rank_correlation_is_spearman_s(paper, ours, expected):
    lines = [line(str(index), top1, paper=figure) for index, (figure, top1) in enumerate(zip(paper, ours, strict=True))]
    others = [line("norm", 0.9, paper=1.0, of_mixers=False), line("own", 0.95), line("lost", paper=2.0)]
    found = rank_correlation([*lines, *others])
    assert found.rho == pytest.approx(expected)
    assert found.rows == len(paper)


# Of the n! orders, those that correlate as much or more in either direction.
@pytest.mark.parametrize(
    ("ours", "expected"), [([1, 2, 3, 4], 2 / 24), ([4, 3, 2, 1], 2 / 24), ([1, 3, 2, 4], 8 / 24), ([2, 4, 1, 3], 1.0)]
)
def test_the_p_of_a_rank_correlation_is_the_share_of_orders_as_far_from_none(ours, expected):
    found = rank_correlation([line(str(index), top1 / 10, paper=index) for index, top1 in enumerate(ours)])
    assert found.p == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("ours", [[], [0.5, 0.6], [0.5, 0.5, 0.5]])
def test_there_is_no_rank_correlation_of_too_few_or_equal_rows(ours):
    assert rank_correlation([line(str(index), top1, paper=index) for index, top1 in enumerate(ours)]) is None
