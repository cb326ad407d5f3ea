"""Samplers, each compiled to a table of coefficients that the engine applies: see `table.py`.

Every module of `methods` lists its samplers in `SAMPLERS`. A sampler has the name of its function,
and its title and its name in other programs are in `protocol/request/samplers.py`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from models.samplers import methods
from models.samplers.edm_schedule import EdmSchedule, preconditioned
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import NoiseLevels
from models.samplers.plan import Plan
from models.samplers.schedules.registry import SCHEDULES, Schedule, fitting_schedules
from models.samplers.table import HISTORY, SamplerTable

__all__ = ["HISTORY", "SAMPLERS", "SCHEDULES", "Plan", "SamplerTable", "Schedule", "compile_table"]
__all__ += ["fitting_samplers"]

Sampler = Callable[[Plan], SamplerTable]


def _listed() -> Iterator[tuple[str, Sampler]]:
    """Yield name and function of every sampler that a module of `methods` lists."""
    for module in iter_modules(methods.__path__, f"{methods.__name__}."):
        for sampler in import_module(module.name).SAMPLERS:
            yield sampler.__name__, sampler


SAMPLERS: dict[str, Sampler] = dict(sorted(_listed()))

# The samplers that diffusers has for flows.
_OF_FLOWS = {"euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"}
# Those for models distilled from betas, and PLMS, which adds up velocities of different levels.
_OF_BETAS = {"lcm", "tcd", "plms"}


def fitting_samplers(noise_schedule: NoiseLevels) -> dict[str, Sampler]:
    """Return the samplers that a model with these noise levels can have, by name."""
    if isinstance(noise_schedule, FlowSchedule):
        return {name: one for name, one in SAMPLERS.items() if name in _OF_FLOWS}
    if isinstance(noise_schedule, EdmSchedule):
        return {name: one for name, one in SAMPLERS.items() if name not in _OF_BETAS}
    return SAMPLERS


def compile_table(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseLevels,
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
    samplers, schedules = fitting_samplers(noise_schedule), fitting_schedules(noise_schedule)
    if sampler not in samplers:
        raise ValueError(f"sampler is {sampler!r}, not one of {', '.join(samplers)}")
    if schedule not in schedules:
        raise ValueError(f"schedule is {schedule!r}, not one of {', '.join(schedules)}")
    if not 1 <= steps <= noise_schedule.num_train_timesteps:
        raise ValueError(f"steps is {steps}, not in 1..{noise_schedule.num_train_timesteps}")
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is {eta}, not in 0..1")
    if eta and sampler != "ddim":
        raise ValueError(f"eta is {eta} with {sampler}, but only ddim has it")
    return _compiled(sampler, Plan(noise_schedule, schedules[schedule], steps, strength, eta))


@lru_cache(maxsize=256)
def _compiled(sampler: str, plan: Plan) -> SamplerTable:
    table = SAMPLERS[sampler](plan)
    if isinstance(plan.noise_schedule, EdmSchedule):
        return preconditioned(table, plan.noise_schedule)
    return table
