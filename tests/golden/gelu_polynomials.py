"""Fit the polynomials by which `poolformer/kernels/channel_mix_cpu.cpp` computes GELU and its derivative.

Both are 0.5 + x R(x^2) between -end and end; R is fitted in t = 2 (x / end)^2 - 1, from -1 to 1, where a polynomial
loses little to rounding. By least squares in Chebyshev's basis; weights grow where the error is large, until it is
nearly equal everywhere. Prints the powers of t, lowest first, and the largest error.
"""

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import ndtr

ROUNDS = 100


def share(x: np.ndarray) -> np.ndarray:
    """GELU of x is x times the share of a normal distribution below x."""
    return (ndtr(x) - 0.5) / x


def slope(x: np.ndarray) -> np.ndarray:
    """The derivative of GELU is that share, and x times the density at x."""
    return share(x) + np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def fit(function: Callable[[np.ndarray], np.ndarray], end: float, degree: int) -> tuple[np.ndarray, float]:
    t = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    x = end * np.sqrt((t + 1) / 2)
    y, weight = function(x), x + 1e-3
    for _ in range(ROUNDS):
        found = chebyshev.chebfit(t, y, degree, w=weight)
        error = np.abs((chebyshev.chebval(t, found) - y) * x)
        weight *= np.sqrt(0.2 + error / error.max())
        weight /= weight.max()
    return chebyshev.cheb2poly(found), error.max()


if __name__ == "__main__":
    for precision, end, degrees in (("float", 5.5, (14, 16)), ("BFloat16", 5.0, (10, 11))):
        for function, degree in zip((share, slope), degrees, strict=True):
            powers, error = fit(function, end, degree)
            print(f"{precision} {function.__name__}, within {error:.1e} to {end}:")
            print(", ".join(f"{power:.9g}f" for power in powers))
