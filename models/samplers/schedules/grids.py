"""Grids of noise levels: (noise schedule, steps) -> (steps,) sigmas, decreasing.

Those of flows are shares of noise in 0 to 1, by diffusers.

They are those of other programs, by their names there. A level between two trained ones is
interpolated in the logarithm, as in k-diffusion.
"""

import numpy as np

from models.samplers.flow_schedule import NOISIEST, FlowSchedule
from models.samplers.noise_schedule import FloatArray, NoiseLevels
from models.samplers.spacing import log_sigmas_at, stride, within_training

_DISTILLED_STEPS = 50  # Luo et al. 2023, "Latent Consistency Models": the steps of the teacher

# Sabour et al. 2024, "Align Your Steps": levels of ten steps, as published with the paper (NVIDIA,
# Toronto AI lab); the last is that of an eleventh evaluation.
_ALIGNED_SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def normal(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return sigmas at even timesteps from the last to the first trained one."""
    last = noise_schedule.num_train_timesteps - 1
    return log_sigmas_at(np.linspace(last, 0, steps), noise_schedule)


def sgm_uniform(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return sigmas at even timesteps that stop one step short of the first, as in SDXL's code."""
    last = noise_schedule.num_train_timesteps - 1
    return log_sigmas_at(np.linspace(last, 0, steps + 1)[:-1], noise_schedule)


def simple(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return every n-th trained level, from the noisiest on."""
    trained = noise_schedule.num_train_timesteps
    below = (np.arange(steps) * (trained / steps)).astype(int)
    return noise_schedule.sigmas[trained - 1 - below]


def ddim(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return sigmas at timesteps 1, 1 + stride, ... of the CompVis code, ignoring any offset.

    Where the stride does not divide the trained timesteps that code takes more steps than
    requested; here the noisiest of them are left out.
    """
    timesteps = 1.0 + np.arange(steps, dtype=np.float64)[::-1] * stride(steps, noise_schedule)
    return log_sigmas_at(within_training(timesteps, noise_schedule), noise_schedule)


def lcm(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return some of the timesteps of consistency distillation, the noisiest first."""
    count = max(_DISTILLED_STEPS, steps)
    distilled = np.arange(count, 0, -1) * max(noise_schedule.num_train_timesteps // count, 1) - 1
    chosen = np.floor(np.linspace(0, count, steps, endpoint=False)).astype(int)
    return noise_schedule.sigmas[distilled[chosen]]


def aligned_sd1(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    return _aligned(_ALIGNED_SD1, noise_schedule, steps)


def aligned_sdxl(noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    return _aligned(_ALIGNED_SDXL, noise_schedule, steps)


def _aligned(published: tuple[float, ...], noise_schedule: NoiseLevels, steps: int) -> FloatArray:
    """Return the published levels for any number of steps: log-linear, as by the authors."""
    places = np.linspace(0, len(published) - 1, steps + 1)[:-1]
    sigmas = np.exp(np.interp(places, np.arange(len(published)), np.log(published)))
    return np.minimum(sigmas, noise_schedule.sigmas[-1])


def flow(noise_schedule: FlowSchedule, steps: int) -> FloatArray:
    """Return levels from pure noise to the cleanest trained one.

    Those of FlowMatchEulerDiscreteScheduler, which shifts the cleanest level twice.
    """
    cleanest = noise_schedule.shifted(np.array([1.0 / noise_schedule.num_train_timesteps]))[0]
    return noise_schedule.shifted(np.linspace(1.0, cleanest, steps))


def flow_dpm(noise_schedule: FlowSchedule, steps: int) -> FloatArray:
    """Return levels from the noisiest but one: DPMSolverMultistepScheduler, use_flow_sigmas."""
    shares = 1.0 - np.linspace(1.0, 1.0 / noise_schedule.num_train_timesteps, steps + 1)
    return noise_schedule.shifted(shares)[:0:-1]


def flow_unipc(noise_schedule: FlowSchedule, steps: int) -> FloatArray:
    """Return levels that stop a step short of the cleanest: UniPCMultistepScheduler, likewise."""
    shares = np.linspace(1.0, 1.0 / noise_schedule.num_train_timesteps, steps + 1)[:-1]
    return np.minimum(noise_schedule.shifted(shares), NOISIEST)
