"""Second passes over an image that was generated before, completely or in part.

`RefinerPass`: another model takes the last steps (Podell et al. 2023, section 2.5). `HiresFixPass`:
the latents are scaled up and denoised again in part, at a size at which the model could not have
composed the image at once. After an `UpscalePass` the pixels are scaled up instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F

from models.denoising.denoiser import DenoisingState
from models.denoising.noise import ImageNoise
from models.denoising.sampling_params import SamplingParams
from models.pipeline import LatentDiffusion
from models.samplers import SamplerTable
from models.samplers.partial import compile_rest
from models.upscalers.config import RGB
from models.upscalers.resampling import Pixels, Size, channels_first
from models.upscalers.tile_work import TileWork
from models.upscalers.upscaling import Method, Upscaling, steps_of


class UpscalingBetween(Upscaling):
    """The upscaling of an image whose denoising goes on later, with the stream of its noise."""

    def __init__(self, pixels: Pixels, size: Size, method: Method, noise: ImageNoise) -> None:
        super().__init__(pixels, size, [method])
        self.noise = noise


State = DenoisingState | TileWork


class Pass(Protocol):
    """Denoising or upscaling that follows a finished pass, possibly with another model."""

    @property
    def model(self) -> LatentDiffusion: ...

    @property
    def steps(self) -> int:
        """Return the number of evaluations of the network, or of tiles."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, h, w) of the latents that the network reads."""

    def begin(self, before: State) -> State:
        """Return the state that starts from the result of `before`, which is done."""


@dataclass(frozen=True)
class RefinerPass:
    """The last steps, from the share `params.denoising_end` of the noise schedule on.

    The latents of the first model are taken unchanged. Fresh noise comes from the same generator.
    """

    model: LatentDiffusion
    params: SamplingParams

    @property
    def steps(self) -> int:
        return len(self._table())

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(self.params.width, self.params.height)

    def begin(self, before: State) -> DenoisingState:
        assert isinstance(before, DenoisingState)
        return DenoisingState(
            self._table(),
            before.x,
            before.noise,
            *self.model.conditionings(self.params),
            self.params.guidance_scale,
            self.params.guidance_rescale,
            guidance_interval=self.params.guidance_interval,
        )

    def _table(self) -> SamplerTable:
        params = self.params
        return compile_rest(
            params.sampler,
            params.schedule,
            params.steps,
            self.model.noise_schedule,
            params.denoising_end,
            params.eta,
        )


@dataclass(frozen=True)
class UpscalePass:
    """The finished latents are decoded, and their pixels scaled up from one size to another."""

    model: LatentDiffusion
    method: Method
    sizes: tuple[Size, Size]

    @property
    def steps(self) -> int:
        return steps_of(*self.sizes, self.method)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(*self.sizes[0])  # the pass before has it, too

    def begin(self, before: State) -> UpscalingBetween:
        assert isinstance(before, DenoisingState)
        pixels = self.model.decode(before.x[None])[0, ..., :RGB].numpy()
        return UpscalingBetween(pixels, self.sizes[1], self.method, before.noise)


@dataclass(frozen=True)
class HiresFixPass:
    """Image to image from finished latents or upscaled pixels.

    With the size, steps and strength of `params`. Latents are scaled up by an `interpolation` of
    torch.
    """

    model: LatentDiffusion
    params: SamplingParams
    interpolation: str = "bicubic"
    antialias: bool = True

    @property
    def steps(self) -> int:
        return len(self.model.table(self.params, from_noise=False))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(self.params.width, self.params.height)

    def begin(self, before: State) -> DenoisingState:
        assert isinstance(before, DenoisingState | UpscalingBetween)
        noise = before.noise.resized(self.shape)
        if isinstance(before, UpscalingBetween):
            encoded = self.model.encode_image(channels_first(before.pixels))
            return self.model.begin(self.params, noise, self.model.sample_latents(encoded, noise))
        size = self.shape[1:]
        larger = F.interpolate(
            before.x[None], size=size, mode=self.interpolation, antialias=self.antialias
        )
        return self.model.begin(self.params, noise, larger[0])
