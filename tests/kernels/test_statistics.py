"""Mean and deviation of each sample, against NumPy in float64."""

import numpy as np
import pytest
import torch

from poolformer.kernels.statistics import statistics


@pytest.mark.parametrize(("given", "computed", "error"), [("float64", "float64", 1e-12), ("bfloat16", "float32", 1e-5)])
def test_statistics_are_those_of_each_sample_alone(given, computed, error):
    x = (torch.randn(3, 4, 5, 6) * 2 + 30).to(getattr(torch, given))
    mean, factor = statistics(x, 1e-5, getattr(torch, computed))
    exact = x.double().numpy().reshape(3, -1)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=error)
    np.testing.assert_allclose(factor, (exact.var(1) + 1e-5) ** -0.5, rtol=100 * error)
    assert mean.dtype == factor.dtype == getattr(torch, computed)


def test_one_value_has_no_deviation():
    mean, factor = statistics(torch.full((2, 1), 7.0), 0.25, torch.float32)
    assert (mean.tolist(), factor.tolist()) == ([7, 7], [2, 2])
