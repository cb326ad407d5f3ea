"""A model in memory, as the engine draws with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from models.pipeline import LatentDiffusion
from worker.engine.safety import Safety
from worker.engine.step_profile import UNMEASURED, StepProfile


@dataclass(frozen=True, eq=False)
class Resident:
    """A model that is loaded, what its steps cost, and who looks at its pictures, if anybody."""

    model: LatentDiffusion
    profile: StepProfile
    safety: Safety | None = None


def unmeasured(model: LatentDiffusion, slots: int) -> Resident:
    """A model of which no step was measured: all `slots` may step together, guided or not."""
    return Resident(model, StepProfile(UNMEASURED, most_rows=2 * slots))


class LimitsOfEach:
    """The limits of several models; their groups begin with the model's name.

    A `worker.engine.batcher.Limits`.
    """

    def __init__(self, models: Mapping[str, Resident]) -> None:
        """`models` may change as time goes on."""
        self._models = models

    def step_seconds(self, group: Hashable, rows: int) -> float:
        return self.profile(group).step_seconds(group, rows)

    def cap(self, group: Hashable) -> int:
        return self.profile(group).cap(group)

    def profile(self, group: Hashable) -> StepProfile:
        """What was measured of the model of that group."""
        assert isinstance(group, tuple)
        return self._models[group[0]].profile
