"""Common parts of the samplers in sigma space, where x = z0 + sigma * noise."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.samplers.levels import SigmaLevels, sigma_levels
from models.samplers.noise_schedule import Level, NoiseLevels, PredictionType
from models.samplers.plan import Plan

# (sigma, next sigma) -> (sigma at the end of the step, weight of fresh noise added after it)
Split = Callable[[float, float], tuple[float, float]]

# `compile_table` refuses it: sigma is infinite where flows begin.
_NO_FLOW = "flows are not sampled in sigma space"


def deterministic_split(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return the next sigma, and no noise."""
    return sigma_next, 0.0


def ancestral_split(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Overshoot and add noise back: Song et al. 2021 (score-based SDEs), appendix F."""
    up = sigma_next * (1.0 - (sigma_next / sigma) ** 2) ** 0.5
    down = sigma_next**2 / sigma  # sqrt(sigma_next^2 - up^2)
    return down, up


class Step(NamedTuple):
    """A step from one level to the next, with the timestep of the first."""

    timestep: float
    sigma: float
    sigma_next: float

    @property
    def known(self) -> Level:
        """Return the level of the known region after the step."""
        return Level(1.0, self.sigma_next)

    @property
    def last(self) -> bool:
        return self.sigma_next == 0.0


def steps_of(plan: Plan) -> tuple[Level, list[Step]]:
    """Return the level at which x starts, and the steps."""
    levels = sigma_levels(plan.schedule, plan.steps, plan.noise_schedule)
    sigmas = [float(sigma) for sigma in levels.sigmas]
    steps = [
        Step(float(levels.timesteps[index]), sigmas[index], sigmas[index + 1])
        for index in range(plan.skipped, plan.steps)
    ]
    if plan.strength is None:
        return _pure_noise(levels, plan), steps
    return Level(1.0, sigmas[plan.skipped]), steps


def _pure_noise(levels: SigmaLevels, plan: Plan) -> Level:
    """Return diffusers' init_noise_sigma.

    The other two spacings start where nearly no signal is left; "leading" starts lower, and the
    noise also replaces the signal: the network's input, input_scale * x, has variance 1.
    """
    sigma = float(levels.sigmas[0])
    lower = plan.schedule.spacing == "leading"
    return Level(0.0, (sigma**2 + 1.0) ** 0.5 if lower else sigma)


def input_scale(sigma: float) -> float:
    """Return the factor that gives x the variance 1 that the network expects."""
    return (sigma**2 + 1.0) ** -0.5


def timestep_at(sigma: float, noise_schedule: NoiseLevels) -> float:
    """Return the timestep at a level between two of the schedule's."""
    return float(noise_schedule.timesteps_at(np.array([sigma]))[0])


def derivative(sigma: float, prediction_type: PredictionType) -> tuple[float, float]:
    """Return the weights on x and on the output that give dx/dsigma = (x - x0) / sigma.

    This is the noise in x.
    """
    match prediction_type:
        case "v_prediction":
            return sigma / (sigma**2 + 1.0), (sigma**2 + 1.0) ** -0.5
        case "sample":
            return 1.0 / sigma, -1.0 / sigma
        case "epsilon":
            return 0.0, 1.0
        case "flow_prediction":
            raise AssertionError(_NO_FLOW)


def denoised(sigma: float, prediction_type: PredictionType) -> tuple[float, float]:
    """Return the weights on x and on the output that give the predicted x0."""
    match prediction_type:
        case "v_prediction":
            return 1.0 / (sigma**2 + 1.0), -sigma * (sigma**2 + 1.0) ** -0.5
        case "sample":
            return 0.0, 1.0
        case "epsilon":
            return 1.0, -sigma
        case "flow_prediction":
            raise AssertionError(_NO_FLOW)
