"""Speeds are measured last, and what fails there costs no page."""

import sys
from dataclasses import asdict

from poolformer.judging.cells import Cell
from poolformer.judging.outcomes import of_cell
from poolformer.judging.probe import ProbeSettings
from poolformer.judging.speed import of_cells

TINY = asdict(ProbeSettings(steps=2, batch_size=4, dim=8, depth=1, test_maps=8, evaluations=1))


def does_not_train(dim):
    raise RuntimeError("no such kernel")


def exits(dim):
    sys.exit(0)


def test_a_row_that_fails_while_it_is_measured_has_no_speed_and_is_named(tmp_path):
    mixers = {"pooling": "pooling", "odd": does_not_train, "exits": exits}
    cells = [Cell(row, mixer, "order", 6, 0, TINY, tmp_path / row) for row, mixer in mixers.items()]
    said = []
    speeds = of_cells(cells, tmp_path, say=said.append)
    assert list(speeds) == [("pooling", of_cell("order", 6))]
    line, of_exit = said
    assert line.startswith("odd, 6x6 has no speed: ")
    assert "no such kernel" in line
    assert "SystemExit: 0" in of_exit
