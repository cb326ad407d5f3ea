"""Tables of parts of a sampler's steps: the noisiest with one model, the rest with another.

The cut is a share of the noise schedule, as `denoising_end` and `denoising_start` of diffusers'
SDXL pipelines: a step belongs to the model within whose timesteps it begins. For every cut, each
part has at least one step.
"""

from dataclasses import replace

import numpy as np

from models.samplers import compile_table
from models.samplers.noise_schedule import NoiseLevels
from models.samplers.table import SamplerTable


def compile_part(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseLevels,
    strength: float | None = None,
    *,
    denoising_end: float = 1.0,
    eta: float = 0.0,
) -> SamplerTable:
    """Return `compile_table` without the steps that begin after the share `denoising_end`.

    It is in (0, 1].
    """
    whole = compile_table(sampler, schedule, steps, noise_schedule, strength, eta)
    if denoising_end >= 1.0:
        return whole
    rest = compile_rest(sampler, schedule, steps, noise_schedule, denoising_end)
    return whole.first(max(1, len(whole) - len(rest)))


def compile_rest(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseLevels,
    denoising_start: float,
    eta: float = 0.0,
) -> SamplerTable:
    """Return the steps that begin after the share `denoising_start`.

    They start from latents of the noise level at that share.
    """
    first = steps_before(sampler, schedule, steps, noise_schedule, denoising_start)
    rest = _skip(sampler, schedule, steps, noise_schedule, first, eta)
    return replace(rest, start_signal=1.0, start_noise=0.0)


def steps_before(
    sampler: str, schedule: str, steps: int, noise_schedule: NoiseLevels, share: float
) -> int:
    """Return the number of steps that begin before `share` of the noise schedule.

    It is at least 1 and at most `steps` - 1. Raises ValueError for a single step, which cannot be
    shared.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, but two models share 2 at least")
    position = round(noise_schedule.num_train_timesteps * (1.0 - share))
    cut = noise_schedule.network_timesteps(np.array([float(position)]))[0]
    low, high = 1, steps - 1
    while low < high:  # bisection, because steps begin at falling timesteps
        middle = (low + high) // 2
        if _skip(sampler, schedule, steps, noise_schedule, middle).timestep[0] >= cut:
            low = middle + 1
        else:
            high = middle
    return low


def _skip(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseLevels,
    count: int,
    eta: float = 0.0,
) -> SamplerTable:
    """Return the table without its `count` first steps, fewer than `steps`."""
    # Half a step more than remain, so that rounding down leaves exactly those.
    strength = min(1.0, (steps - count + 0.5) / steps)
    return compile_table(sampler, schedule, steps, noise_schedule, strength, eta)
