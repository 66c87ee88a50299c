"""Fit the quotient by which `poolformer.kernels.channel_mix_plain` computes the share of a normal distribution below x.

0.5 + x P(x^2) / Q(x^2) on [-5.5, 5.5] by least squares, linear in the coefficients when Q is taken to the other side;
weights grow where the error is large, until it is nearly equal everywhere. Prints P and Q, lowest power first.
"""

import numpy as np
from scipy.special import ndtr

END, DEGREE_P, DEGREE_Q, ROUNDS = 5.5, 4, 5, 60


def fit() -> tuple[list[float], list[float]]:
    x = END * np.cos(np.linspace(0, np.pi / 2, 4000))
    x = x[x > 1e-3]
    share, square = (ndtr(x) - 0.5) / x, (x / END) ** 2
    weight, divisor = x.copy(), np.ones_like(x)
    powers_p = np.stack([square**power for power in range(DEGREE_P + 1)], 1)
    powers_q = np.stack([square**power for power in range(1, DEGREE_Q + 1)], 1)
    system = np.concatenate([powers_p, -share[:, None] * powers_q], 1)
    for _ in range(ROUNDS):
        scale = weight / divisor
        solution = np.linalg.lstsq(system * scale[:, None], share * scale, rcond=None)[0]
        p, q = solution[: DEGREE_P + 1], solution[DEGREE_P + 1 :]
        divisor = 1 + powers_q @ q
        error = np.abs((powers_p @ p / divisor - share) * x)
        weight *= np.sqrt(0.2 + error / error.max())
        weight /= weight.max()
    to_x = END ** (-2.0 * np.arange(DEGREE_Q + 1))
    return list(p * to_x[: DEGREE_P + 1]), [1.0, *(q * to_x[1:])]


if __name__ == "__main__":
    for coefficients in fit():
        print(", ".join(f"{coefficient:.9g}" for coefficient in coefficients))
