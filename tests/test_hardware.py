"""The plan for many GPUs follows from the figures that it states."""

import re

import pytest

from poolformer.backbones import create_backbone
from poolformer.configs import config_dir

IMAGES = 1_281_167
TEXT = (config_dir() / "hardware" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| (S\d\d) \| (\d+) \| ([\d.]+) s \| (\d+) \| ([\d.]+) ms \| ([\d.]+) GB/s \| (\w+) \|$", TEXT, re.MULTILINE
)
GPU = {"S12": 6400, "S36": 2300}
LOADER, BATCH, IMAGE = 3000, 128, 37e3


def gradients(size: str) -> float:
    return float(
        dict(zip(("S12", "S36"), re.search(r"gradients of ([\d.]+) and ([\d.]+) MB", TEXT).groups(), strict=True))[size]
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:2]))
def test_a_row_is_what_the_figures_make(row):
    size, gpus, epoch, steps, exchange, read, limit = row
    gpus, rate = int(gpus), min(GPU[size], LOADER)
    link = 300e9 if gpus <= 8 else 25e9
    assert float(epoch) == pytest.approx(IMAGES / (rate * gpus), rel=0.05)
    assert int(steps) == IMAGES // (BATCH * gpus)
    assert float(exchange) == pytest.approx(2e9 * (gpus - 1) / gpus * gradients(size) / link, abs=0.06)
    assert float(read) == pytest.approx(rate * gpus * IMAGE / 1e9, abs=0.06)
    assert limit == ("batch" if gpus == 512 else "loader" if GPU[size] > LOADER else "GPU")


def test_all_rows_are_there():
    assert [row[:2] for row in ROWS] == [(size, str(gpus)) for size in GPU for gpus in (1, 8, 64, 512)]
    for figure in (
        "6,400 (S12) and 2,300 (S36)",
        "3,000 images/s",
        "128 images a GPU",
        "37 kB an image",
        "300 GB/s",
        "25 GB/s",
    ):
        assert figure in TEXT


@pytest.mark.parametrize("size", GPU)
def test_gradients_are_as_many_as_the_parameters(size):
    parameters = sum(each.numel() for each in create_backbone(f"poolformer_{size.lower()}").parameters())
    assert gradients(size) == pytest.approx(parameters * 4 / 1e6, abs=0.1)
