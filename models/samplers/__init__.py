"""Samplers, each compiled to a table of coefficients that the engine applies: see `table.py`.

Every module of `methods` lists its samplers in `SAMPLERS`. A sampler has the name of its function,
and its title and its name in other programs are in `protocol/request/samplers.py`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from models.samplers import methods
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.plan import Plan
from models.samplers.schedules.registry import SCHEDULES, Schedule
from models.samplers.table import HISTORY, SamplerTable

__all__ = ["HISTORY", "SAMPLERS", "SCHEDULES", "Plan", "SamplerTable", "Schedule", "compile_table"]

Sampler = Callable[[Plan], SamplerTable]


def _listed() -> Iterator[tuple[str, Sampler]]:
    """Yield name and function of every sampler that a module of `methods` lists."""
    for module in iter_modules(methods.__path__, f"{methods.__name__}."):
        for sampler in import_module(module.name).SAMPLERS:
            yield sampler.__name__, sampler


SAMPLERS: dict[str, Sampler] = dict(sorted(_listed()))


def compile_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    strength: float | None = None,
    eta: float = 0.0,
) -> SamplerTable:
    """Return the table of a sampler; the same arguments give the same table, mostly from a cache.

    strength None starts from pure noise (text-to-image, and inpainting at strength 1 in diffusers);
    a number in (0, 1] starts from z0 with noise added and takes only the last `int(steps *
    strength)` steps, of which there must be one. eta, in [0, 1], is for "ddim" only: the share of
    fresh noise in a step. `len(table)` is the number of evaluations: for "plms" one more than the
    steps, and up to twice as many for samplers that evaluate a step twice. Raises ValueError for
    arguments out of bounds, with name, value and bound.
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
