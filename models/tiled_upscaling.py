"""Image to image in tiles, for images larger than the model can generate at once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from models.autoencoders.first_stage import Posterior
from models.denoising.denoiser import Control, DenoisingState
from models.denoising.sampling_params import ControlImage, SamplingParams
from models.denoising.tiled_state import TiledState, no_controls
from models.denoising.tiles import TileGrid, Window
from models.executors.tiling import band_count
from models.multi_pass import Pass, State
from models.networks.controlnet import ControlNet
from models.pipeline import LatentDiffusion
from models.upscalers.resampling import Pixels, Size, channels_first
from models.upscalers.tile_work import TileWork
from models.upscalers.upscaling import Upscaling


@dataclass(frozen=True)
class TiledControl:
    """A ControlNet for tiles: `pixels` (H, W, 3) of the result's size, None: the image itself."""

    net: ControlNet
    pixels: Pixels | None
    weight: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def within(self, window: tuple[slice, slice], image: Pixels) -> ControlImage:
        """Return the part for a window of pixels; `image` is the upscaled one."""
        pixels = image if self.pixels is None else self.pixels
        part = channels_first(pixels)[:, *window].float() / 255
        return ControlImage(self.net, part, self.weight, self.interval)


class Encoding(TileWork):
    """The encoding of an image by the first stage, band by band; `posterior` is the result."""

    posterior: Posterior

    def __init__(self, model: LatentDiffusion, pixels: Pixels) -> None:
        height, width, _ = pixels.shape
        steps = band_count(model.executors.encoder, height, width)
        super().__init__(pixels, steps, self._run(model, pixels, steps))

    def _run(self, model: LatentDiffusion, pixels: Pixels, steps: int) -> Generator[None]:
        height, width, _ = pixels.shape
        self.method, self.shape = f"{model.number}: encoder", (height // steps, width)
        encode, parts = model.encode_bands(channels_first(pixels)), []
        for _ in range(steps):
            yield
            parts.append(next(encode))
        self.posterior = model.posterior(parts)


class Decoding(TileWork):
    """The decoding of finished latents by the first stage, band by band."""

    def __init__(self, model: LatentDiffusion, latents: Tensor) -> None:
        steps = band_count(model.executors.decoder, *latents.shape[-2:])
        super().__init__(np.empty((0, 0, 3), np.uint8), steps, self._run(model, latents, steps))

    def _run(self, model: LatentDiffusion, latents: Tensor, steps: int) -> Generator[None]:
        height, width = latents.shape[-2:]
        self.method, self.shape = f"{model.number}: decoder", (height // steps, width)
        decode, parts = model.decode_bands(latents[None]), []
        for _ in range(steps):
            yield
            parts.append(next(decode))
        self.pixels = torch.cat(parts, dim=1)[0].numpy()


@dataclass(frozen=True)
class EncodePass:
    """The upscaled image of `size` is encoded."""

    model: LatentDiffusion
    size: Size
    shape: tuple[int, int, int]

    @property
    def steps(self) -> int:
        width, height = self.size
        return band_count(self.model.executors.encoder, height, width)

    def begin(self, before: State) -> Encoding:
        assert isinstance(before, Upscaling)
        return Encoding(self.model, before.pixels)


@dataclass(frozen=True)
class DecodePass:
    """The finished latents of an image of `size` are decoded."""

    model: LatentDiffusion
    size: Size
    shape: tuple[int, int, int]

    @property
    def steps(self) -> int:
        _, height, width = self.model.latent_shape(*self.size)
        return band_count(self.model.executors.decoder, height, width)

    def begin(self, before: State) -> Decoding:
        assert isinstance(before, DenoisingState)
        return Decoding(self.model, before.x)


@dataclass(frozen=True)
class TiledPass:
    """Image to image from upscaled pixels, in tiles of `side` that share `overlap`, both in pixels.

    With the size, steps and strength of `params`. An image that one tile covers is denoised as
    without tiles.
    """

    model: LatentDiffusion
    params: SamplingParams
    seed: int
    side: int
    overlap: int
    controls: tuple[TiledControl, ...] = ()

    @property
    def steps(self) -> int:
        return len(self.model.table(self.params, from_noise=False)) * len(self._grid.windows)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.autoencoder.config.latent_channels, *self._grid.shape

    def around(self) -> list[Pass]:
        """Return the pass together with the encoding before it and the decoding after it."""
        size = self.params.width, self.params.height
        encode = EncodePass(self.model, size, self.shape)
        return [encode, self, DecodePass(self.model, size, self.shape)]

    @cached_property
    def _grid(self) -> TileGrid:
        _, height, width = self.model.latent_shape(self.params.width, self.params.height)
        factor = self.model.autoencoder.config.factor
        return TileGrid(height, width, self.side // factor, self.overlap // factor)

    def begin(self, before: State) -> DenoisingState:
        assert isinstance(before, Encoding)
        params = replace(self.params, image=channels_first(before.pixels))
        whole = len(self._grid.windows) == 1
        if whole:
            everything = (slice(None), slice(None))
            images = tuple(control.within(everything, before.pixels) for control in self.controls)
            params = replace(params, controls=images)
        posterior = before.posterior if self.model.starts_from_image(params) else None
        [state] = self.model.start_encoded(params, [self.seed], posterior)
        return state if whole else self._tiled(state, before.pixels)

    def _tiled(self, whole: DenoisingState, pixels: Pixels) -> TiledState:
        """Return the state that goes on from `whole` in tiles, conditioned on their size."""
        positive, negative = self.model.conditionings(self._tile_params)
        return TiledState(
            whole.table,
            whole.x,
            whole.noise,
            positive,
            negative,
            whole.guidance_scale,
            whole.guidance_rescale,
            whole.concat,
            guidance_interval=whole.guidance_interval,
            controls=tuple(_without_hint(control) for control in self.controls),
            image_guidance_scale=whole.image_guidance_scale,
            grid=self._grid,
            tile_controls=partial(self._controls_of, pixels) if self.controls else no_controls,
        )

    @property
    def _tile_params(self) -> SamplingParams:
        height, width = self._grid.shape
        factor = self.model.autoencoder.config.factor
        return replace(self.params, height=height * factor, width=width * factor)

    def _controls_of(self, image: Pixels, window: Window) -> tuple[Control, ...]:
        """Return the controls of a tile; `image` is the upscaled one."""
        factor = self.model.autoencoder.config.factor
        rows, columns = (slice(factor * s.start, factor * s.stop) for s in window)
        return tuple(
            self.model.embed_control(control.within((rows, columns), image), self._tile_params)
            for control in self.controls
        )


def _without_hint(control: TiledControl) -> Control:
    return Control(control.net, torch.empty(0), control.weight, control.interval)
