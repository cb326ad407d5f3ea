"""Part of a sampler's way: its noisiest steps with one model, the rest with another.

The cut is a share of the noise schedule, as `denoising_end` and `denoising_start` of diffusers'
SDXL pipelines: a step belongs to the model within whose timesteps it begins. Wherever the cut is,
each part has one step at least.
"""

from dataclasses import replace

from models.samplers import compile_table
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.table import SamplerTable


def compile_part(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    strength: float | None = None,
    *,
    denoising_end: float = 1.0,
    eta: float = 0.0,
) -> SamplerTable:
    """`compile_table`, without the steps that begin after the share `denoising_end`, in (0, 1]."""
    whole = compile_table(sampler, schedule, steps, noise_schedule, strength, eta)
    if denoising_end >= 1.0:
        return whole
    rest = compile_rest(sampler, schedule, steps, noise_schedule, denoising_end)
    return whole.first(max(1, len(whole) - len(rest)))


def compile_rest(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    denoising_start: float,
    eta: float = 0.0,
) -> SamplerTable:
    """The steps that begin after the share `denoising_start`, from latents that are as noisy as that."""
    first = steps_before(sampler, schedule, steps, noise_schedule, denoising_start)
    rest = _skip(sampler, schedule, steps, noise_schedule, first, eta)
    return replace(rest, start_signal=1.0, start_noise=0.0)


def steps_before(
    sampler: str, schedule: str, steps: int, noise_schedule: NoiseSchedule, share: float
) -> int:
    """How many steps begin before `share` of the noise schedule is done, but from 1 to `steps` - 1.

    Raises ValueError for a single step, which cannot be shared.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, but two models share 2 at least")
    cut = round(noise_schedule.num_train_timesteps * (1.0 - share))
    low, high = 1, steps - 1
    while low < high:  # steps begin at falling timesteps, so the place of the cut can be halved
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
    noise_schedule: NoiseSchedule,
    count: int,
    eta: float = 0.0,
) -> SamplerTable:
    """The table without its `count` first steps, fewer than `steps`."""
    # Half a step more than remain: rounding down leaves just those.
    strength = min(1.0, (steps - count + 0.5) / steps)
    return compile_table(sampler, schedule, steps, noise_schedule, strength, eta)
