"""Common parts of the solvers in log-SNR: the exponential integrator of the predicted x0.

They solve for x = signal * z0 + noise * unit noise as the network gets it, along
lambda = log(signal / noise) = -log(sigma), and predict x0 from each output of the network.
"""

from math import log

from models.samplers.levels import SigmaLevels
from models.samplers.noise_schedule import Level
from models.samplers.plan import Plan
from models.samplers.table import PURE_NOISE


def start(levels: SigmaLevels, plan: Plan) -> Level:
    if plan.strength is None:
        return PURE_NOISE
    return plan.noise_schedule.level(float(levels.sigmas[plan.skipped]))


def keep(before: Level, after: Level) -> float:
    """Return the factor of x over a step: the ratio of its noise after and before."""
    return after.noise / before.noise


def gain(sigma: float, sigma_next: float, after: Level) -> float:
    """Return the weight of a constant x0 in a step: signal_next * (1 - exp(-h)).

    h is the change of lambda. after: the level of sigma_next.
    """
    return after.signal * (1.0 - sigma_next / sigma)


def extrapolation(sigma_before: float, sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return second-order weights on the x0 predicted now and before, for a step from sigma.

    A line through both, evaluated in the middle of the step: Lu et al. 2022 (DPM-Solver++), the 2M
    scheme in its midpoint form; UniP-2 with B(h) = exp(h) - 1 is the same (Zhao et al. 2023).
    """
    ahead = 0.5 * log(sigma / sigma_next) / log(sigma_before / sigma)
    return 1.0 + ahead, -ahead
