"""Second passes over an image that was generated before, completely or in part.

`RefinerPass`: another model takes the last steps (Podell et al. 2023, section 2.5). `HiresFixPass`:
the latents are scaled up and denoised again in part, at a size at which the model could not have
composed the image at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.pipeline import LatentDiffusion
from models.samplers import SamplerTable
from models.samplers.partial import compile_rest


class Pass(Protocol):
    """Denoising that follows a finished one, possibly with another model."""

    @property
    def model(self) -> LatentDiffusion: ...

    @property
    def steps(self) -> int:
        """Return the number of evaluations of the network."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, h, w) of the latents."""

    def begin(self, before: DenoisingState) -> DenoisingState:
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

    def begin(self, before: DenoisingState) -> DenoisingState:
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
class HiresFixPass:
    """Image to image from the finished latents, with the size, steps and strength of `params`."""

    model: LatentDiffusion
    params: SamplingParams

    @property
    def steps(self) -> int:
        return len(self.model.table(self.params, from_noise=False))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(self.params.width, self.params.height)

    def begin(self, before: DenoisingState) -> DenoisingState:
        size = self.shape[1:]
        larger = F.interpolate(before.x[None], size=size, mode="bicubic", antialias=True)[0]
        return self.model.begin(self.params, before.noise.resized(self.shape), larger)
