"""Common parts of the solvers in log-SNR: the exponential integrator of the predicted x0.

They solve for x = signal * z0 + noise * unit noise with signal^2 + noise^2 = 1, along
lambda = log(signal / noise) = -log(sigma), and predict x0 from each output of the network.
"""

from math import log

from models.samplers.levels import SigmaLevels, level
from models.samplers.plan import Plan
from models.samplers.table import PURE_NOISE, Level


def start(levels: SigmaLevels, plan: Plan) -> Level:
    if plan.strength is None:
        return PURE_NOISE
    return level(float(levels.sigmas[plan.skipped]))


def keep(sigma: float, sigma_next: float) -> float:
    """Return the factor of x over a step: the ratio of its noise after and before."""
    return level(sigma_next).noise / level(sigma).noise


def gain(sigma: float, sigma_next: float) -> float:
    """Return the weight of a constant x0 in a step: signal_next * (1 - exp(-h)).

    h is the change of lambda.
    """
    return level(sigma_next).signal * (1.0 - sigma_next / sigma)


def extrapolation(sigma_before: float, sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return second-order weights on the x0 predicted now and before, for a step from sigma.

    A line through both, evaluated in the middle of the step: Lu et al. 2022 (DPM-Solver++), the 2M
    scheme in its midpoint form; UniP-2 with B(h) = exp(h) - 1 is the same (Zhao et al. 2023).
    """
    ahead = 0.5 * log(sigma / sigma_next) / log(sigma_before / sigma)
    return 1.0 + ahead, -ahead
