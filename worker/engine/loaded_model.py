"""Models in memory, as the engine uses them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from models.pipeline import LatentDiffusion
from worker.engine.safety import Safety
from worker.engine.step_profile import UNMEASURED, StepProfile
from worker.engine.tile_costs import TileCosts


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, the costs of its steps, and its safety checker, if it has one."""

    model: LatentDiffusion
    profile: StepProfile
    safety: Safety | None = None


def unmeasured(model: LatentDiffusion, slots: int) -> LoadedModel:
    """Return a model without measured steps: all `slots` may step together, guided or not."""
    return LoadedModel(model, StepProfile(UNMEASURED, most_rows=2 * slots))


TILE_WORK = "tile work"  # second part of the groups of `TileWork`; that of others is a number


class LimitsByModel:
    """The limits of several models, whose groups begin with the model's name, and of upscalers.

    A `worker.engine.batcher.Limits`.
    """

    def __init__(self, models: Mapping[str, LoadedModel]) -> None:
        """`models` may change later."""
        self._models = models
        self._tiles = TileCosts()

    def step_seconds(self, group: Hashable, rows: int) -> float:
        return self.profile(group).step_seconds(group, rows)

    def cap(self, group: Hashable) -> int:
        return self.profile(group).cap(group)

    def profile(self, group: Hashable) -> StepProfile | TileCosts:
        """Return the step profile of the group's model, or the costs of tiles."""
        assert isinstance(group, tuple)
        return self._tiles if group[1] == TILE_WORK else self._models[group[0]].profile
