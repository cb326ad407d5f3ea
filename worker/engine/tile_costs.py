"""Predicts the time of the tiles of upscalers and of bands of first stages, learned from each.

Pure: no torch, no clock. A group is a tuple that ends in the network's name and the height and
width of the tile or band. A tile is a batch of its own: its network has enough to do, and its bits
cannot depend on other images.
"""

from __future__ import annotations

from collections.abc import Hashable

SECONDS_PER_PIXEL = 1e-6  # before the first tile
WEIGHT = 0.3  # of a new tile in the mean


class TileCosts:
    """The costs of tiles by upscaler: a `worker.engine.batcher.Limits`."""

    def __init__(self) -> None:
        self._per_pixel: dict[str, float] = {}

    def step_seconds(self, group: Hashable, rows: int) -> float:
        name, pixels = _parts(group)
        return rows * pixels * self._per_pixel.get(name, SECONDS_PER_PIXEL)

    def cap(self, group: Hashable) -> int:
        return 1

    def fits(self, group: Hashable, rows: int) -> bool:
        return True

    def observe(self, group: Hashable, rows: int, seconds: float) -> None:
        name, pixels = _parts(group)
        measured = max(seconds, 1e-6) / (rows * pixels)
        before = self._per_pixel.get(name, measured)
        self._per_pixel[name] = before + WEIGHT * (measured - before)

    def ran_out_of_memory(self, group: Hashable, rows: int) -> None:
        """Do nothing: a tile cannot be smaller."""


def _parts(group: Hashable) -> tuple[str, int]:
    assert isinstance(group, tuple)
    name, height, width = group[-3:]
    return name, max(1, height * width)
