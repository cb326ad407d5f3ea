"""Outpainting: an image in a larger one, whose border is generated in rounds.

Each round generates a window of the canvas by inpainting, in the size of the model. Before it the
window has the image and what earlier rounds have generated; the rest is filled from there. All
rounds of one image take their noise from one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.autoencoders.pixels import RGB, from_bytes
from models.denoising.denoiser import DenoisingState
from models.denoising.fill import fill_masked
from models.denoising.noise import ImageNoise
from models.denoising.sampling_params import SamplingParams
from models.multi_pass import Pass, State
from models.pipeline import LatentDiffusion
from models.upscalers.resampling import Pixels, channels_first
from models.upscalers.tile_work import TileWork

Window = tuple[slice, slice]  # rows and columns
Flags = NDArray[np.bool_]


class Canvas:
    """An image in a larger one while its border is generated.

    Up to `blend` pixels of what is known are blended with what is generated next to it. Pixels
    outside the `result`, which is a part of the canvas, are for the model alone.
    """

    def __init__(
        self, image: Pixels, place: Window, shape: tuple[int, int], result: Window, blend: int
    ) -> None:
        """`place`: of the image; `shape`: height and width of the canvas."""
        self._pixels = np.zeros((*shape, RGB), np.uint8)
        self._pixels[place] = image
        self._unknown = np.ones(shape, bool)
        self._unknown[place] = False
        self._needed = np.zeros(shape, bool)
        self._needed[result] = True
        self._result = result
        self._blend = blend

    @property
    def result(self) -> Pixels:
        """The part of the canvas that is asked for."""
        return self._pixels[self._result]

    def pixels(self, window: Window) -> Pixels:
        """Return a window whose unknown pixels are black."""
        return self._pixels[window]

    def filled(self, window: Window) -> Pixels:
        """Return a window whose unknown pixels have the colours of those around them."""
        mask = 255 * self._unknown[window].astype(np.uint8)
        return fill_masked(self._pixels[window], mask)

    def unknown(self, window: Window) -> Tensor:
        """Return 1 for the pixels to generate, (1, h, w)."""
        return torch.from_numpy(self._unknown[window][None]).float()

    def shares(self, window: Window) -> Tensor:
        """Return the shares (1, h, w) of generated pixels in a window: 1 where it is unknown,
        falling to 0 inside of what is known."""
        needed = self._unknown[window] & self._needed[window]
        return torch.maximum(faded(needed, self._blend), self.unknown(window))

    def put(self, window: Window, generated: Pixels) -> None:
        """Blend a generated window in. Then all of it is known."""
        share = self.shares(window)[0, ..., None].numpy()
        # Exact where the share is 0 or 1, since the levels are small integers.
        mixed = share * generated + (1 - share) * self._pixels[window]
        self._pixels[window] = np.rint(mixed).astype(np.uint8)
        self._unknown[window] = False


def faded(marked: Flags, width: int) -> Tensor:
    """Return (1, h, w): 1 where it is marked, falling linearly to 0 at `width` pixels from there.

    The marked area grows by half of that, and its mean over squares of that size is taken.
    """
    grown, half = torch.from_numpy(marked[None]).float(), width // 2
    reach = width - half
    for vertical, horizontal in ((1, 0), (0, 1)):
        kernel = (1 + 2 * reach * vertical, 1 + 2 * reach * horizontal)
        grown = F.max_pool2d(grown, kernel, 1, (reach * vertical, reach * horizontal))
    for vertical, horizontal in ((1, 0), (0, 1)):
        kernel = (1 + 2 * half * vertical, 1 + 2 * half * horizontal)
        padding = (half * vertical, half * horizontal)
        grown = F.avg_pool2d(grown, kernel, 1, padding, count_include_pad=False)
    return grown


@dataclass(frozen=True, eq=False)
class Outpainting:
    """The rounds of one image.

    params: of every round, in the size of the windows, without an image. decode: finished latents
    (1, C, h, w), and parameters with what is known of their window, to (1, H, W, C).
    """

    model: LatentDiffusion
    params: SamplingParams
    canvas: Canvas
    windows: Sequence[Window]
    decode: Callable[[Tensor, SamplingParams], Tensor]

    def round_params(self, window: Window) -> SamplingParams:
        """Return the parameters of a round, with the image and mask of now.

        A network for inpainting gets the mask that it was trained with, others a soft one: what is
        blended is known during the first part of the steps only.
        """
        soft = not self.model.is_inpainting
        return replace(
            self.params,
            image=from_bytes(channels_first(self.canvas.filled(window))),
            mask=self.canvas.shares(window) if soft else self.canvas.unknown(window),
            soft_mask=soft,
        )

    def known_params(self, window: Window) -> SamplingParams:
        """Return the parameters with what is known of a window before its round has ended."""
        image = from_bytes(channels_first(self.canvas.pixels(window)))
        return replace(self.params, image=image, mask=self.canvas.unknown(window))

    def passes(self, steps: int) -> list[Pass]:
        """Return what follows the first round; a round takes `steps`."""
        passes: list[Pass] = [CompositionPass(self, self.windows[0])]
        for window in self.windows[1:]:
            passes += [RoundPass(self, window, steps), CompositionPass(self, window)]
        return passes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, h, w) of a window's latents."""
        return self.model.latent_shape(self.params.width, self.params.height)


class Composition(TileWork):
    """The decoding of a finished round onto the canvas; `pixels` is the result so far."""

    def __init__(self, outpainting: Outpainting, window: Window, before: DenoisingState) -> None:
        self.noise: ImageNoise = before.noise
        work = self._run(outpainting, window, before.x)
        super().__init__(outpainting.canvas.result, 1, work)

    def _run(self, outpainting: Outpainting, window: Window, latents: Tensor) -> Generator[None]:
        self.method = f"{outpainting.model.number}: decoder"
        self.shape = latents.shape[-2], latents.shape[-1]
        yield
        decoded = outpainting.decode(latents[None], outpainting.known_params(window))
        pixels = decoded[0, ..., :RGB].numpy()
        outpainting.canvas.put(window, pixels)


@dataclass(frozen=True, eq=False)
class _WindowPass:
    """A pass over one window of an outpainting."""

    outpainting: Outpainting
    window: Window
    steps: int

    @property
    def model(self) -> LatentDiffusion:
        return self.outpainting.model

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.outpainting.shape


@dataclass(frozen=True, eq=False)
class CompositionPass(_WindowPass):
    """The end of the round of a window: it is decoded and blended into the canvas."""

    steps: int = 1

    def begin(self, before: State) -> Composition:
        assert isinstance(before, DenoisingState)
        return Composition(self.outpainting, self.window, before)


@dataclass(frozen=True, eq=False)
class RoundPass(_WindowPass):
    """The denoising of a window, when those before it are known."""

    def begin(self, before: State) -> DenoisingState:
        assert isinstance(before, Composition)
        params = self.outpainting.round_params(self.window)
        return self.model.start_with(params, before.noise)
