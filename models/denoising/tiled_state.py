"""One image between noise and latents whose network runs on tiles of it.

The latents stay whole: one table, one history and one stream of noise, as without tiles. Only the
network's output is computed tile by tile, in as many runs as it takes, and the row is completed
when the outputs of all tiles are blended. Tiles are added in one order, so that the number of
tiles in a run changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor

from models.denoising.denoiser import (
    Control,
    Denoiser,
    DenoisingState,
    Predictions,
    advance_with,
    coefficients_of,
    predict,
)
from models.denoising.slot_update import SlotUpdate, slot_update
from models.denoising.tiles import TileGrid, Window

TileControls = Callable[[Window], tuple[Control, ...]]  # the controls of one tile, with their hints


def no_controls(window: Window) -> tuple[Control, ...]:
    """Return the controls of a tile of an image without ControlNets."""
    return ()


@dataclass(eq=False)
class TiledState(DenoisingState):
    """An image denoised in the tiles of `grid`.

    positive and negative condition a tile. `controls` have no hints: those of a tile come from
    `tile_controls` when it is run, because the hints of a large image do not fit into memory.
    `most_tiles` bounds the tiles of the next run; it may be changed between runs.
    """

    grid: TileGrid = field(kw_only=True)
    tile_controls: TileControls = field(kw_only=True, default=no_controls)
    most_tiles: int = field(kw_only=True, default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._blended = 0  # tiles of this row
        self._outputs: list[Tensor] = []  # of this row, as far as they are blended

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.x.shape[0], *self.grid.shape

    @property
    def evaluations_left(self) -> int:
        return (self.steps - self.row) * len(self.grid.windows) - self._blended

    @property
    def runs_left(self) -> int:
        if self.done:
            return 0
        tiles = len(self.grid.windows)
        rows_after = self.steps - self.row - 1
        of_this_row = ceil((tiles - self._blended) / self.most_tiles)
        return of_this_row + rows_after * ceil(tiles / self.most_tiles)

    @property
    def ends_row(self) -> bool:
        return self._blended + self.most_tiles >= len(self.grid.windows)

    @property
    def rows(self) -> int:
        return self.least_rows * max(1, len(self._next()))

    def _next(self) -> range:
        """Return the numbers of the tiles of the next run; none if only the update is left."""
        end = min(self._blended + self.most_tiles, len(self.grid.windows))
        return range(self._blended, end)

    def tiles(self) -> list[DenoisingState]:
        """Return the tiles of the next run, each as an image of its own at this row."""
        return [self._tile(self.grid.windows[n]) for n in self._next()]

    def _tile(self, window: Window) -> DenoisingState:
        place = (slice(None), *window)
        return DenoisingState(
            self.table,
            self.x[place],
            self.noise,
            self.positive,
            self.negative,
            self.guidance_scale,
            concat=None if self.concat is None else self.concat[place],
            guidance_interval=self.guidance_interval,
            controls=self.tile_controls(window) if self.active_controls else (),
            image_guidance_scale=self.image_guidance_scale,
            row=self.row,
        )

    def blend(self, predictions: Sequence[Tensor]) -> None:
        """Add the network's outputs (tiles, C, h, w), with each conditioning, for these tiles."""
        if self._blended == 0:
            self._outputs = [torch.zeros_like(self.x) for _ in predictions]
        for whole, tiles in zip(self._outputs, predictions, strict=True):
            for n, tile in zip(self._next(), tiles, strict=True):
                whole[(slice(None), *self.grid.windows[n])] += (
                    self.grid.weights[n].to(self.x.device) * tile
                )
        self._blended = self._next().stop

    def complete_row(self, update: SlotUpdate) -> None:
        """Advance by one row if all tiles of this row are blended."""
        if self._blended < len(self.grid.windows):
            return
        x = self.x[None]
        predictions = Predictions(*(output[None] for output in self._outputs))
        advance_with([self], x, coefficients_of([self], x), predictions, update)
        self._blended = 0


@torch.inference_mode()
def advance_tiles(
    denoise: Denoiser,
    batch: list[TiledState],
    dtype: torch.dtype,
    update: SlotUpdate = slot_update,
) -> None:
    """Run the network once for the next tiles of every state, and complete rows, in place.

    All must share the shape of their tiles and the active ControlNets.
    """
    tiles = [state.tiles() for state in batch]
    together = [tile for of in tiles for tile in of]
    if together:
        x = torch.stack([tile.x for tile in together])
        predictions = predict(denoise, together, x, coefficients_of(together, x), dtype)
        sizes = [len(of) for of in tiles]
        parts = zip(*(output.split(sizes) for output in predictions.tensors), strict=True)
        for state, part in zip(batch, parts, strict=True):
            state.blend(part)
    for state in batch:
        state.complete_row(update)
