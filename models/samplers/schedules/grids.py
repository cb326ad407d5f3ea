"""Noise levels that are given as they are: (noise schedule, steps) -> (steps,) sigmas, decreasing.

Those of other programs, by the names that they have there. Where a level falls between two trained
ones it is read on the line through their logarithms, as k-diffusion does.
"""

import numpy as np

from models.samplers.noise_schedule import FloatArray, NoiseSchedule
from models.samplers.spacing import log_sigmas_at, stride, within_training

_DISTILLED_STEPS = 50  # Luo et al. 2023, "Latent Consistency Models": the steps they distil

# Sabour et al. 2024, "Align Your Steps": levels of ten steps, as published with the paper (NVIDIA,
# Toronto AI lab), the last of which is where the eleventh evaluation would be.
_ALIGNED_SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def normal(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """Even timesteps from the last to the first trained one."""
    last = noise_schedule.num_train_timesteps - 1
    return log_sigmas_at(np.linspace(last, 0, steps), noise_schedule)


def sgm_uniform(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """Even timesteps that stop one step short of the first: the way SDXL's authors sample."""
    last = noise_schedule.num_train_timesteps - 1
    return log_sigmas_at(np.linspace(last, 0, steps + 1)[:-1], noise_schedule)


def simple(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """Every so many trained levels, from the noisiest on."""
    trained = noise_schedule.num_train_timesteps
    below = (np.arange(steps) * (trained / steps)).astype(int)
    return noise_schedule.sigmas[trained - 1 - below]


def ddim(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """Timesteps 1, 1 + stride, ...: those of the CompVis code, whatever the files say of an offset.

    Where the stride does not divide the trained timesteps that code takes more steps than it was
    asked for; here the noisiest of them are left out.
    """
    timesteps = 1.0 + np.arange(steps, dtype=np.float64)[::-1] * stride(steps, noise_schedule)
    return log_sigmas_at(within_training(timesteps, noise_schedule), noise_schedule)


def lcm(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """Some of the timesteps between which consistency models were distilled, the noisiest first."""
    count = max(_DISTILLED_STEPS, steps)
    distilled = np.arange(count, 0, -1) * max(noise_schedule.num_train_timesteps // count, 1) - 1
    chosen = np.floor(np.linspace(0, count, steps, endpoint=False)).astype(int)
    return noise_schedule.sigmas[distilled[chosen]]


def aligned_sd1(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    return _aligned(_ALIGNED_SD1, noise_schedule, steps)


def aligned_sdxl(noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    return _aligned(_ALIGNED_SDXL, noise_schedule, steps)


def _aligned(published: tuple[float, ...], noise_schedule: NoiseSchedule, steps: int) -> FloatArray:
    """The published levels for any number of steps: log-linear between them, as the authors do."""
    places = np.linspace(0, len(published) - 1, steps + 1)[:-1]
    sigmas = np.exp(np.interp(places, np.arange(len(published)), np.log(published)))
    return np.minimum(sigmas, noise_schedule.sigmas[-1])
