"""What a block costs the processor is measured beside the same block in separate operators."""

import json

import pytest
import torch

from poolformer.bench.host import main
from poolformer.kernels import availability


@pytest.mark.slow
def test_separate_and_fused_are_measured_and_kernels_are_as_before(capsys):
    pytest.importorskip("triton")
    from poolformer.kernels import pool_mix_triton

    before = (availability._INTERPRETS, torch.get_num_threads(), dict(vars(pool_mix_triton)))
    assert main(["--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["host_ms"]) == {"separate", "fused"}
    assert all(0 < ms < 1000 for ms in found["host_ms"].values())
    assert (availability._INTERPRETS, torch.get_num_threads(), dict(vars(pool_mix_triton))) == before
