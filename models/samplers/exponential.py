"""What DPM-Solver++ and UniPC share: the exponential integrator of the predicted x0.

Both solve for x = signal * z0 + noise * unit noise with signal^2 + noise^2 = 1, along
lambda = log(signal / noise) = -log(sigma), and both predict x0 from each output of the network.
"""

from math import log

from models.samplers.levels import SigmaLevels
from models.samplers.spacing import rows_skipped
from models.samplers.table import PURE_NOISE, Level
from models.schedule import PredictionType


def level(sigma: float) -> Level:
    """The noise level with this ratio of noise to signal."""
    signal = (sigma**2 + 1.0) ** -0.5
    return Level(signal, sigma * signal)


def start(levels: SigmaLevels, steps: int, strength: float | None) -> Level:
    if strength is None:
        return PURE_NOISE
    return level(float(levels.sigmas[rows_skipped(steps, strength)]))


def predict_x0(sigma: float, prediction_type: PredictionType) -> tuple[float, float]:
    """Weights on x and on the network's output that give the predicted x0."""
    signal, noise = level(sigma)
    if prediction_type == "v_prediction":
        return signal, -noise
    return 1.0 / signal, -sigma


def keep(sigma: float, sigma_next: float) -> float:
    """What remains of x over a step: the ratio of its noise after and before."""
    return level(sigma_next).noise / level(sigma).noise


def gain(sigma: float, sigma_next: float) -> float:
    """How much of a constant x0 a step adds: signal_next * (1 - exp(-h)), h = lambda's change."""
    return level(sigma_next).signal * (1.0 - sigma_next / sigma)


def extrapolation(sigma_before: float, sigma: float, sigma_next: float) -> tuple[float, float]:
    """Second-order weights on the x0 predicted now and before, for a step from sigma.

    A line through both, read in the middle of the step: Lu et al. 2022 (DPM-Solver++), the 2M
    scheme in its midpoint form; UniP-2 with B(h) = exp(h) - 1 is the same (Zhao et al. 2023).
    """
    ahead = 0.5 * log(sigma / sigma_next) / log(sigma_before / sigma)
    return 1.0 + ahead, -ahead
