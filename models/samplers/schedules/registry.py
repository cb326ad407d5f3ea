"""Registry of the schedules, which determine the noise levels that a sampler visits.

"leading", "linspace" and "trailing" are the three spacings of timesteps of table 2 in Lin et al.
2023. A curve spaces noise levels instead, between the ends of a spacing; a grid is a list of noise
levels of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.samplers.noise_schedule import FloatArray, NoiseSchedule
from models.samplers.schedules import curves, grids
from models.samplers.spacing import Spacing

Curve = Callable[[float, float, int], FloatArray]
Grid = Callable[[NoiseSchedule, int], FloatArray]


@dataclass(frozen=True)
class Schedule:
    """A spacing with at most one of `curve` and `grid`.

    A grid starts at the noisy end of its spacing.
    """

    spacing: Spacing
    curve: Curve | None = None
    grid: Grid | None = None

    @property
    def in_sigmas(self) -> bool:
        """Return True if noise levels are chosen and timesteps follow, not the other way round."""
        return self.curve is not None or self.grid is not None


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

# Schedules for one family of models: True for SDXL, False for others.
_OF_ONE_FAMILY = {"align-your-steps": False, "align-your-steps-xl": True}


def schedules_of(*, sdxl: bool) -> tuple[str, ...]:
    """Return the names of the schedules for SDXL, or for other models."""
    return tuple(name for name in SCHEDULES if _OF_ONE_FAMILY.get(name, sdxl) == sdxl)
