"""The figures of an ablation as matplotlib has drawn them: nothing hidden, equal costs together, the baseline seen."""

import statistics
from pathlib import Path

import pytest
from logged import write_run

from poolformer.ablation.figures import _by_cost, _limits, _short, draw, draw_learning, place
from poolformer.ablation.report import Report
from poolformer.ablation.rows import Row
from poolformer.ablation.runs import Result
from poolformer.ablation.table import Line


def line(name: str, *percents: float, macs: int = 37_200_000) -> Line:
    results = tuple(Result(each / 100, each / 100, 5, 2_861_962, 0, macs, 100.0, 9.0) for each in percents)
    return Line(Row(name), results, tuple(range(len(results))))


ROWS = [
    line("base", 60, 62, 61),
    line("same", 60, 62, 61),
    line("dear", 63, 64, 63.5, macs=49_200_000),
    line("close", 62, 63, 62.5, macs=37_211_000),
    line("lost"),
]


def drawn(rows, base="base"):
    pytest.importorskip("matplotlib")
    return _by_cost(rows, "macs", "MACs", "title", base)


def dots(axes, x: float) -> int:
    return sum(
        round(float(value), 6) == x for each in axes.lines if each.get_marker() == "o" for value in each.get_xdata()
    )


def test_rows_of_equal_cost_stand_together_the_best_first_and_the_cheapest_at_the_top():
    rows = place(ROWS, "macs")
    assert [(row.line.row.name, row.cost, row.y, row.group) for row in rows] == [
        ("close", "37.2 M", 0, 0),
        ("base", "37.2 M", 1, 0),
        ("same", "37.2 M", 2, 0),
        ("dear", "49.2 M", 3, 1),
    ]


def test_every_seed_is_a_dot_also_where_two_rows_are_equal():
    figure = drawn(ROWS)
    scores, apart = figure.axes[:2]
    ours = [value for row in ROWS for value in row.by_seed.values()]
    assert all(dots(scores, value) == ours.count(value) for value in ours)
    low, high = scores.get_xlim()
    assert all(low < value < high for value in ours)
    assert dots(apart, 0.0) == 3  # of the equal row; the baseline's own are not drawn
    assert [dots(apart, each) for each in (3.0, 2.0, 2.5, 1.0, 1.5)] == [1, 2, 1, 1, 1]


def test_a_note_is_no_wider_than_the_figure():
    figure = drawn([line("a_base_of_a_rather_long_name", 60, 62, 61), *ROWS], "a_base_of_a_rather_long_name")
    figure.draw_without_rendering()
    note = next(text for text in figure.texts if text.get_text().startswith("Dots: seeds"))
    assert note.get_window_extent().x1 < figure.bbox.x1


def test_the_current_directory_has_its_name_above_the_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Report([], [], Path(), {}, "command").title(ROWS[:1]) == f"{tmp_path.name}: 5 epochs, 3 seeds"


def test_names_stand_beside_their_rows_and_the_baseline_is_marked():
    figure = drawn(ROWS)
    labels = {text.get_text(): text.get_fontweight() for text in figure.axes[0].get_yticklabels()}
    assert labels == {"close": "normal", "base": "bold", "same": "normal", "dear": "normal"}
    levels = [each.get_xdata()[0] for each in figure.axes[0].lines if each.get_linestyle() == "--"]
    assert levels == [pytest.approx(61)]
    assert "difference to base" in figure.axes[1].get_xlabel()
    assert figure.get_suptitle() == "title"
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)


def test_another_baseline_can_be_named_and_none_is_needed():
    assert "difference to dear" in drawn(ROWS, "dear").axes[1].get_xlabel()
    assert len(drawn(ROWS[:1]).axes) == 1
    assert len(drawn(ROWS, "lost").axes) == 1  # nothing to compare with


@pytest.mark.parametrize(("percents", "few"), [((60,), False), ((60, 61), True), ((60, 61, 62), False)])
def test_thin_intervals_are_called_thin(percents, few):
    said = drawn([line("base", *percents), line("other", *percents)]).get_supxlabel()
    assert ("2 seeds are few" in said) == few
    assert ("95 % intervals" in said) == (len(percents) > 1)


@pytest.mark.parametrize(
    ("rows", "hidden"),
    [
        ([[70.0]], []),
        ([[61.0, 79.0], [67.0, 74.0]], []),  # seeds differ by more than rows
        ([[60.0], [62.0], [64.0, 67.0]], []),
        ([[56.4], [63.0], [64.0]], []),
        ([[10.0, 12.0], [62.0], [64.0]], [10.0, 12.0]),
    ],
)
def test_the_axis_shows_all_seeds_but_of_rows_that_did_not_learn(rows, hidden):
    low, high = _limits([dict(enumerate(own)) for own in rows], None)
    values = [value for own in rows for value in own if value not in hidden]
    assert all(low < value < high for value in values)
    assert not any(low < value < high for value in hidden)
    assert high - low <= 2.3 * (max(values) - min(values)) + 2


def test_a_row_that_did_not_learn_is_there_with_its_numbers():
    rows = [line("base", 60, 61), line("b", 61, 62), line("c", 61, 62), line("no-residual", 9, 11)]
    assert [text.get_text() for text in drawn(rows).axes[0].texts] == ["10.0 (9.0 to 11.0)"]


@pytest.mark.parametrize(
    ("number", "text"), [(1_822_700_000, "1.82 G"), (4_000_000, "4.00 M"), (372_000_000, "372 M"), (999_999, "1.00 M")]
)
def test_costs_have_three_digits(number, text):
    assert _short(number) == text


@pytest.mark.slow
def test_the_files_are_those_of_what_is_finished(tmp_path):
    pytest.importorskip("matplotlib")
    directories = {"base": [write_run(tmp_path / "base" / f"seed-{seed}", [0.1, 0.6], seed=seed) for seed in (0, 1)]}
    rows = [line("base", 60, 61), line("lost")]
    files = [*draw(rows, tmp_path, title="t"), *draw_learning(rows, directories, tmp_path, title="t")]
    names = [f"{name}.{kind}" for name in ("top1-macs", "top1-params", "curves") for kind in ("png", "svg", "pdf")]
    assert [file.name for file in files] == names
    assert all(file.stat().st_size > 1000 for file in files)
    assert draw_learning(rows, {}, tmp_path, title="t") == []


def test_the_mean_of_a_row_is_where_the_table_says():
    marks = [each.get_xdata()[0] for each in drawn(ROWS).axes[0].lines if each.get_marker() == "D"]
    assert marks == [pytest.approx(statistics.fmean(row.by_seed.values())) for row in (ROWS[3], *ROWS[:2], ROWS[2])]
