"""`poolformer bench data` measures every contestant and says so as a table or as JSON."""

import json
import os
import signal
import time
import warnings

import psutil
import pytest
import torch
from data_images import write_class_folders
from forked import Started

from poolformer.bench.data import main
from poolformer.commands.pack import main as pack
from poolformer.errors import ConfigError, DataError

CONTESTANTS = [
    "training: ours",
    "training: ours, kernels alone",
    "training: timm",
    "training: torchvision",
    "evaluation: ours",
    "evaluation: ours, kernels alone",
    "evaluation: timm",
    "decoding alone",
]
SMALL = ["--images=24", "--rounds=1", "--batch_size=4", "--image_size=32", "--num_workers=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_class_folders(tmp_path_factory.mktemp("data") / "folder")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
def test_every_contestant_is_measured(folder, capsys):
    capsys.readouterr()
    assert main([str(folder), *SMALL, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert list(results) == CONTESTANTS
    assert all(figures["images_per_s"] > 0 for figures in results.values())
    assert all(figures["core_ms"] > 0 for figures in results.values())
    assert results["training: timm"]["of_timm"] == results["evaluation: timm"]["of_timm"] == 1


@pytest.mark.slow
@pytest.mark.ffcv
def test_ffcv_takes_part_where_it_is_installed(folder, tmp_path, capsys):
    pytest.importorskip("ffcv")
    from ffcv.pipeline.compiler import Compiler

    pack([str(folder), str(tmp_path / "x.beton")])
    capsys.readouterr()
    threads = torch.get_num_threads()
    Compiler.set_enabled(False)
    try:
        assert main([str(tmp_path / "x.beton"), *SMALL, "--json"]) == 0
    finally:
        Compiler.set_enabled(True)
    results = json.loads(capsys.readouterr().out)["results"]
    beside = ["training: ours, crop and flip", "training: ffcv, crop and flip", "evaluation: ffcv, other pixels"]
    assert list(results) == [*CONTESTANTS[:-1], *beside, CONTESTANTS[-1]]
    assert all(figures["images_per_s"] > 0 for figures in results.values())
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_raw_files_and_other_images_can_be_given(folder, tmp_path, capsys):
    pack([str(folder), str(tmp_path / "raw.beton"), "--raw"])
    assert main([str(tmp_path / "raw.beton"), "--others", str(folder), *SMALL]) == 0
    assert "training: ours" in capsys.readouterr().out
    assert main([str(tmp_path / "raw.beton"), *SMALL]) == 0


def test_fewer_images_than_a_batch_name_the_option_of_the_benchmark(folder):
    with pytest.raises(DataError, match=r"fewer than one batch of 999: lower --batch_size, for example to \d+$"):
        main([str(folder), "--batch_size=999"])


def test_nothing_to_measure_is_refused(folder):
    with pytest.raises(ConfigError, match="--images"):
        main([str(folder), "--images=0"])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="of signals as POSIX has them")
@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)])
def test_a_stopped_benchmark_leaves_no_process(folder, signum):
    arguments = ["bench", "data", str(folder), "--images=200", "--batch_size=4", "--num_workers=1"]
    process = Started("-m", "poolformer", *arguments)
    family, end = [], time.monotonic() + 120
    while not family:  # timm's turn has begun
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
        family = psutil.Process(process.pid).children()
    process.send_signal(signum)
    assert process.wait(timeout=60) == 128 + signum  # what PyTorch's workers print as their parent goes is theirs
    assert psutil.wait_procs(family, timeout=10)[1] == []
