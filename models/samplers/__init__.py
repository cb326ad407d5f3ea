"""Samplers, each compiled to a table of coefficients that the engine applies: see `table.py`.

A new sampler is a new file with one function and its line in SAMPLERS.
"""

from collections.abc import Callable
from functools import lru_cache

from models.samplers.ddim import ddim
from models.samplers.dpmpp import dpmpp_2m
from models.samplers.euler import euler, euler_ancestral
from models.samplers.plms import plms
from models.samplers.spacing import SCHEDULES, Schedule
from models.samplers.table import HISTORY, SamplerTable
from models.samplers.unipc import unipc
from models.schedule import NoiseSchedule

__all__ = ["HISTORY", "SAMPLERS", "SCHEDULES", "SamplerTable", "compile_table"]

Sampler = Callable[[NoiseSchedule, Schedule, int, float | None], SamplerTable]

SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "plms": plms,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}


def compile_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    strength: float | None = None,
) -> SamplerTable:
    """The table of a sampler; the same arguments give the same table, mostly from a cache.

    strength None starts from pure noise (text-to-image, and inpainting at strength 1 in
    diffusers); a number in (0, 1] starts from z0 with noise added, and takes only the last
    `int(steps * strength)` steps, of which there must be one. `len(table)` is the number of
    evaluations: for "plms" one more than the steps. Raises ValueError naming what is out of bounds.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}, not one of {', '.join(SAMPLERS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}, not one of {', '.join(SCHEDULES)}")
    if not 1 <= steps <= noise_schedule.num_train_timesteps:
        raise ValueError(f"steps is {steps}, not in 1..{noise_schedule.num_train_timesteps}")
    return _compiled(sampler, schedule, steps, noise_schedule, strength)


@lru_cache(maxsize=256)
def _compiled(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    strength: float | None,
) -> SamplerTable:
    return SAMPLERS[sampler](noise_schedule, SCHEDULES[schedule], steps, strength)
