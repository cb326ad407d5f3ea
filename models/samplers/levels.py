"""The noise levels that x passes through on its way from noise to image.

Two ways to count them. Stride levels: a position in a table of alphas_cumprod, a fixed number of
positions apart (DDIM, PLMS). Sigma levels: a list of noise-to-signal ratios that ends with 0 (the
others).
"""

from dataclasses import dataclass

import numpy as np

from models.samplers.spacing import (
    Schedule,
    karras_sigmas,
    sigmas_at,
    spaced_timesteps,
    stride,
    timesteps_at,
    within_training,
)
from models.samplers.table import Level
from models.schedule import FloatArray, NoiseSchedule, PredictionType


@dataclass(frozen=True)
class SigmaLevels:
    """timesteps (steps,) for the network; sigmas (steps + 1,), decreasing, the last one 0."""

    timesteps: FloatArray
    sigmas: FloatArray


def sigma_levels(schedule: Schedule, steps: int, noise_schedule: NoiseSchedule) -> SigmaLevels:
    """Levels of the Euler samplers: both ends of the spacing are visited, fractions allowed."""
    timesteps = spaced_timesteps(schedule.spacing, steps, noise_schedule)
    sigmas = sigmas_at(timesteps, noise_schedule)
    if schedule.karras:
        sigmas = karras_sigmas(sigmas[0], sigmas[-1], steps)
        timesteps = timesteps_at(sigmas, noise_schedule)
    return SigmaLevels(within_training(timesteps, noise_schedule), np.append(sigmas, 0.0))


def multistep_levels(schedule: Schedule, steps: int, noise_schedule: NoiseSchedule) -> SigmaLevels:
    """Levels of DPM-Solver++ and UniPC: whole timesteps, and the clean end is not evaluated.

    One timestep more is spaced and the cleanest dropped, but for "trailing", which stops short of
    the clean end by itself. Karras levels span the whole noise schedule whatever the spacing.
    """
    if schedule.karras:
        trained = noise_schedule.sigmas
        sigmas = karras_sigmas(trained[-1], trained[0], steps)
        timesteps = timesteps_at(sigmas, noise_schedule).round()
    else:
        extra = 0 if schedule.spacing == "trailing" else 1
        timesteps = spaced_timesteps(schedule.spacing, steps + extra, noise_schedule)
        timesteps = timesteps[:steps].round()
        sigmas = sigmas_at(timesteps, noise_schedule)
    return SigmaLevels(within_training(timesteps, noise_schedule), np.append(sigmas, 0.0))


@dataclass(frozen=True)
class StrideLevels:
    """timesteps (steps,) for the network; positions (steps,) of the same levels in `alphas`.

    A step leads from position p to position p - stride, and to `final_alpha` below position 0.
    """

    timesteps: FloatArray
    positions: list[int]
    stride: int
    alphas: FloatArray
    final_alpha: float

    def alpha(self, position: int) -> float:
        """Share of the signal's variance at a position."""
        if position < 0:
            return self.final_alpha
        return float(self.alphas[min(position, len(self.alphas) - 1)])

    def level(self, position: int) -> Level:
        alpha = self.alpha(position)
        return Level(alpha**0.5, (1.0 - alpha) ** 0.5)


def stride_levels(
    schedule: Schedule, steps: int, noise_schedule: NoiseSchedule, alpha_to_one: bool
) -> StrideLevels:
    """Levels of DDIM and PLMS; `alpha_to_one` is the sampler's own default for the final level.

    A step is T // steps timesteps long whatever the spacing, as in diffusers, so that after
    "linspace" and "trailing" steps x can be a few timesteps away from what the network is told.
    Karras levels are positions 0, 1, 2, ... of their own small table; they end at sigma 0, as in
    the samplers that were made for them.
    """
    if schedule.karras:
        karras = sigma_levels(schedule, steps, noise_schedule)
        alphas = 1.0 / (1.0 + karras.sigmas[-2::-1] ** 2)
        return StrideLevels(karras.timesteps, list(range(steps))[::-1], 1, alphas, 1.0)
    timesteps = spaced_timesteps(schedule.spacing, steps, noise_schedule).round()
    if noise_schedule.set_alpha_to_one is not None:
        alpha_to_one = noise_schedule.set_alpha_to_one
    return StrideLevels(
        timesteps=within_training(timesteps, noise_schedule),
        positions=[int(timestep) for timestep in timesteps],
        stride=stride(steps, noise_schedule),
        alphas=noise_schedule.alphas_cumprod,
        final_alpha=1.0 if alpha_to_one else float(noise_schedule.alphas_cumprod[0]),
    )


def transfer(before: Level, after: Level, prediction_type: PredictionType) -> tuple[float, float]:
    """Weights on x and on the network's output that take x from one level to another.

    Song et al. 2021, eq. 12 without its noise: x0 and the noise are read from x and the output,
    and mixed again at the new level. Levels keep the variance: signal^2 + noise^2 = 1.
    """
    if prediction_type == "v_prediction":
        # x0 = signal * x - noise * v and eps = noise * x + signal * v: a rotation.
        return (
            after.signal * before.signal + after.noise * before.noise,
            after.noise * before.signal - after.signal * before.noise,
        )
    ratio = after.signal / before.signal
    return ratio, after.noise - ratio * before.noise
