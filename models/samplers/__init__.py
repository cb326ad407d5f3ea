"""Samplers, each compiled to a table of coefficients that the engine applies: see `table.py`.

A new sampler is a new file with one function and its line in SAMPLERS.
"""

from collections.abc import Callable
from functools import lru_cache

from models.samplers.methods.consistency import lcm, tcd
from models.samplers.methods.ddim import ddim
from models.samplers.methods.ddpm import ddpm
from models.samplers.methods.deis import deis
from models.samplers.methods.dpmpp import dpmpp_2m
from models.samplers.methods.dpmpp_sde import dpmpp_2m_sde, dpmpp_3m_sde
from models.samplers.methods.euler import euler, euler_ancestral
from models.samplers.methods.lms import lms
from models.samplers.methods.plms import plms
from models.samplers.methods.singlestep import dpmpp_2s_ancestral, dpmpp_sde
from models.samplers.methods.two_stage import dpm2, dpm2_ancestral, heun
from models.samplers.methods.unipc import unipc
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.plan import Plan
from models.samplers.schedules.registry import SCHEDULES, Schedule
from models.samplers.table import HISTORY, SamplerTable

__all__ = ["HISTORY", "SAMPLERS", "SCHEDULES", "Plan", "SamplerTable", "Schedule", "compile_table"]

Sampler = Callable[[Plan], SamplerTable]

SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "plms": plms,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
    "heun": heun,
    "dpm2": dpm2,
    "dpm2_ancestral": dpm2_ancestral,
    "lms": lms,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "dpmpp_sde": dpmpp_sde,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "deis": deis,
    "ddpm": ddpm,
    "lcm": lcm,
    "tcd": tcd,
}


def compile_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    strength: float | None = None,
    eta: float = 0.0,
) -> SamplerTable:
    """The table of a sampler; the same arguments give the same table, mostly from a cache.

    strength None starts from pure noise (text-to-image, and inpainting at strength 1 in
    diffusers); a number in (0, 1] starts from z0 with noise added, and takes only the last
    `int(steps * strength)` steps, of which there must be one. eta, in [0, 1], is for "ddim" alone:
    how much fresh noise a step adds. `len(table)` is the number of evaluations: for "plms" one more
    than the steps, and up to twice as many for samplers that evaluate a step twice. Raises
    ValueError naming what is out of bounds.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}, not one of {', '.join(SAMPLERS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}, not one of {', '.join(SCHEDULES)}")
    if not 1 <= steps <= noise_schedule.num_train_timesteps:
        raise ValueError(f"steps is {steps}, not in 1..{noise_schedule.num_train_timesteps}")
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is {eta}, not in 0..1")
    if eta and sampler != "ddim":
        raise ValueError(f"eta is {eta} with {sampler}, but only ddim has it")
    return _compiled(sampler, Plan(noise_schedule, SCHEDULES[schedule], steps, strength, eta))


@lru_cache(maxsize=256)
def _compiled(sampler: str, plan: Plan) -> SamplerTable:
    return SAMPLERS[sampler](plan)
