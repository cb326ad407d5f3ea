"""Registry of the schedules, which determine the noise levels that a sampler visits.

"leading", "linspace" and "trailing" are the three spacings of timesteps of table 2 in Lin et al.
2023. A curve spaces noise levels instead, between the ends of a spacing; a grid is a list of noise
levels of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.samplers.edm_schedule import EdmSchedule
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import FloatArray, NoiseLevels
from models.samplers.schedules import curves, grids
from models.samplers.spacing import Spacing

Curve = Callable[[float, float, int], FloatArray]
Grid = Callable[[NoiseLevels, int], FloatArray]
Flow = Callable[[FlowSchedule, int], FloatArray]


@dataclass(frozen=True)
class Schedule:
    """A spacing with at most one of `curve`, `grid` and `flow`, which is for flows only.

    A grid starts at the noisy end of its spacing.
    """

    spacing: Spacing
    curve: Curve | None = None
    grid: Grid | None = None
    flow: Flow | None = None

    @property
    def in_sigmas(self) -> bool:
        """Return True if noise levels are chosen and timesteps follow, not the other way round."""
        return self.curve is not None or self.grid is not None

    def flow_levels(self, noise_schedule: FlowSchedule, steps: int) -> FloatArray:
        """Return (steps,) shares of noise, decreasing."""
        assert self.flow is not None
        return self.flow(noise_schedule, steps)


SCHEDULES: dict[str, Schedule] = {
    "leading": Schedule("leading"),
    "linspace": Schedule("linspace"),
    "trailing": Schedule("trailing"),
    "karras": Schedule("linspace", curves.karras),
    "karras-leading": Schedule("leading", curves.karras),
    "karras-trailing": Schedule("trailing", curves.karras),
    "exponential": Schedule("linspace", curves.exponential),
    "polyexponential": Schedule("linspace", curves.exponential),
    "beta": Schedule("linspace", curves.beta),
    "normal": Schedule("linspace", grid=grids.normal),
    "simple": Schedule("trailing", grid=grids.simple),
    "sgm_uniform": Schedule("trailing", grid=grids.sgm_uniform),
    "ddim": Schedule("leading", grid=grids.ddim),
    "lcm": Schedule("trailing", grid=grids.lcm),
    "align-your-steps": Schedule("trailing", grid=grids.aligned_sd1),
    "align-your-steps-xl": Schedule("trailing", grid=grids.aligned_sdxl),
}

FLOW_SCHEDULES: dict[str, Schedule] = {
    "flow": Schedule("trailing", flow=grids.flow),
    "flow-dpm": Schedule("trailing", flow=grids.flow_dpm),
    "flow-unipc": Schedule("trailing", flow=grids.flow_unipc),
}

# Schedules for one family of models: True for SDXL, False for others.
_OF_ONE_FAMILY = {"align-your-steps": False, "align-your-steps-xl": True}

# Of models with betas only: levels published for them, and curves that keep to a spacing.
_OF_BETAS = {
    "lcm",
    "align-your-steps",
    "align-your-steps-xl",
    "karras-leading",
    "karras-trailing",
}


def schedules_of(noise_schedule: NoiseLevels, *, sdxl: bool) -> tuple[str, ...]:
    """Return the names of the schedules for SDXL, or for other models, with these noise levels."""
    return tuple(
        name for name in fitting_schedules(noise_schedule) if _OF_ONE_FAMILY.get(name, sdxl) == sdxl
    )


def fitting_schedules(noise_schedule: NoiseLevels) -> dict[str, Schedule]:
    """Return the schedules that a model with these noise levels can have, by name."""
    if isinstance(noise_schedule, FlowSchedule):
        return FLOW_SCHEDULES
    if isinstance(noise_schedule, EdmSchedule):
        return {name: one for name, one in SCHEDULES.items() if name not in _OF_BETAS}
    return SCHEDULES
