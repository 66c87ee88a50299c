"""Learning curves as matplotlib has drawn them."""

import pytest

from poolformer.plots import paper
from poolformer.plots.curves import Series, _window, draw_curves

pytest.importorskip("matplotlib")
LONG = list(range(1, 13))


def rising(to: float) -> list[tuple[float, float]]:
    return [(epoch, to * epoch / len(LONG)) for epoch in LONG]


def legend(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]


def test_each_row_has_a_line_and_a_place_in_the_legend_the_best_first():
    rows = [Series("base", [rising(50), rising(52)], True), Series("_$x$", [rising(60)]), Series("none", [])]
    figure = draw_curves(rows, title="digits", x_label="epoch", y_label="val/top1, %")
    assert legend(figure) == ["_$x$  60.0", "base  51.0", "none"]
    whole, last_third = figure.axes
    assert [line.get_color() for line in whole.lines if len(line.get_xdata())] == ["black", paper.look(1)["color"]]
    assert len(whole.collections) == 1  # the band of the row with two seeds
    assert last_third.get_xlim() == (9, 12)
    assert (figure.get_suptitle(), whole.get_ylabel()) == ("digits", "val/top1, %")


def test_what_only_some_seeds_have_reached_is_dotted():
    figure = draw_curves([Series("a", [rising(50)[:2], rising(50)[:4]])], title="", x_label="", y_label="")
    solid, dotted = figure.axes[0].lines
    assert (list(solid.get_xdata()), list(dotted.get_xdata())) == ([1, 2], [2, 3, 4])
    assert dotted.get_linestyle() == ":"
    assert "dotted" in figure.get_supxlabel()


def test_the_last_third_leaves_out_what_is_far_away_and_needs_points_enough():
    near = [Series(name, [rising(60 + number)]) for number, name in enumerate("abc")]
    window = _window([*near, Series("lost", [rising(10)])])
    assert window.x == (9, 12)
    assert 44 < window.y[0] < 45 < 62 < window.y[1] < 63
    assert _window([Series("a", [rising(60)[:5]])]) is None


@pytest.mark.slow
def test_a_figure_is_written_in_each_format_and_the_same_bytes_again(tmp_path):
    starts = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF"}
    files = [[tmp_path / folder / f"curves.{kind}" for kind in starts] for folder in ("one", "other")]
    for paths in files:
        figure = draw_curves([Series("a", [[(1, 0.5)]])], title="t", x_label="epoch", y_label="y")
        assert paper.write(figure, paths) == paths
    for one, other in zip(*files, strict=True):
        assert one.read_bytes().startswith(starts[one.suffix[1:]])
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_many_rows_have_their_names_beside_the_figure():
    rows = [Series(f"row {number}", [[(1, 0.5)]]) for number in range(70)]
    figure = draw_curves(rows, title="t", x_label="epoch", y_label="y")
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_rows_have_colours_or_dashes_of_their_own():
    looks = [str(paper.look(place)) for place in range(40)]
    assert len({*looks}) == len(looks)
