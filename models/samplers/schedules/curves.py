"""Curves of noise levels between two ends: (sigma_max, sigma_min, steps) -> (steps,) sigmas.

They depend on the noise schedule only through both ends.
"""

from math import gamma

import numpy as np

from models.samplers.noise_schedule import FloatArray

_RHO = 7.0  # Karras et al. 2022, eq. 5, the value that they use
_BETA = 0.6  # both parameters of the beta distribution, as in Lee et al. 2024, section 4


def karras(sigma_max: float, sigma_min: float, steps: int) -> FloatArray:
    """Return sigmas even in sigma^(1/7): Karras et al. 2022, eq. 5."""
    ramp = np.linspace(0, 1, steps)
    start, end = sigma_max ** (1 / _RHO), sigma_min ** (1 / _RHO)
    sigmas: FloatArray = (start + ramp * (end - start)) ** _RHO
    return sigmas


def exponential(sigma_max: float, sigma_min: float, steps: int) -> FloatArray:
    """Return sigmas even in log sigma.

    With k-diffusion's default exponent of 1, its polyexponential schedule is the same.
    """
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), steps))


def beta(sigma_max: float, sigma_min: float, steps: int) -> FloatArray:
    """Return quantiles of a beta distribution, which is dense at both ends.

    Lee et al. 2024, "Beta Sampling is All You Need", choose timesteps so; diffusers, whose levels
    these are, chooses sigmas.
    """
    return sigma_min + _beta_quantiles(np.linspace(1, 0, steps)) * (sigma_max - sigma_min)


def _beta_quantiles(shares: FloatArray) -> FloatArray:
    """Return the x below which each share of a symmetric beta distribution lies, by bisection."""
    low, high = np.zeros_like(shares), np.ones_like(shares)
    for _ in range(60):  # until the floats are next to each other
        middle = (low + high) / 2
        below = _beta_share(middle) < shares
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    quantiles: FloatArray = np.where(shares <= 0, 0.0, np.where(shares >= 1, 1.0, (low + high) / 2))
    return quantiles


def _beta_share(x: FloatArray) -> FloatArray:
    """Return the regularised incomplete beta function I_x(a, a), by its power series.

    B_x(a, b) = x^a sum_n (1-b)(2-b)...(n-b) / n! x^n / (a+n) (Abramowitz & Stegun 26.5.4 at small
    x); the larger half follows from the symmetry, and 60 terms of at most 2^-n are exact.
    """
    small = np.minimum(x, 1 - x)
    term, total = np.ones_like(small), np.ones_like(small) / _BETA
    for n in range(1, 60):
        term = term * (n - _BETA) / n * small
        total = total + term / (_BETA + n)
    share = small**_BETA * total / (gamma(_BETA) ** 2 / gamma(2 * _BETA))
    shares: FloatArray = np.where(x <= 0.5, share, 1 - share)
    return shares
