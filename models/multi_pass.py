"""Second passes over a picture that has been drawn already, in whole or in part.

`Refine`: another model takes the last steps (Podell et al. 2023, section 2.5). `HiresFixPass`: the
picture is scaled up as latents, and redrawn in part at a size that the model could not have
composed at once.
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
    """What follows once a picture has gone its way: another trajectory, maybe of another model."""

    @property
    def model(self) -> LatentDiffusion: ...

    @property
    def steps(self) -> int:
        """Evaluations of the network."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of its latents."""

    def begin(self, before: DenoisingState) -> DenoisingState:
        """The trajectory that starts where `before`, which is done, has ended."""


@dataclass(frozen=True)
class Refine:
    """The model goes on from `recipe.until` of the noise schedule, where another has ended.

    The latents are taken as they are; fresh noise comes from where it came before.
    """

    model: LatentDiffusion
    recipe: SamplingParams

    @property
    def steps(self) -> int:
        return len(self._table())

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(self.recipe.width, self.recipe.height)

    def begin(self, before: DenoisingState) -> DenoisingState:
        return DenoisingState(
            self._table(),
            before.x,
            before.noise,
            *self.model.said(self.recipe),
            self.recipe.guidance_scale,
            self.recipe.guidance_rescale,
            guided_between=self.recipe.guided_between,
        )

    def _table(self) -> SamplerTable:
        recipe = self.recipe
        return compile_rest(
            recipe.sampler,
            recipe.schedule,
            recipe.steps,
            self.model.noise_schedule,
            recipe.until,
            recipe.eta,
        )


@dataclass(frozen=True)
class HiresFixPass:
    """The finished latents are the start of `recipe`: of its size, steps and strength."""

    model: LatentDiffusion
    recipe: SamplingParams

    @property
    def steps(self) -> int:
        return len(self.model.table(self.recipe, from_noise=False))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.latent_shape(self.recipe.width, self.recipe.height)

    def begin(self, before: DenoisingState) -> DenoisingState:
        size = self.shape[1:]
        larger = F.interpolate(before.x[None], size=size, mode="bicubic", antialias=True)[0]
        return self.model.begin(self.recipe, before.noise.resized(self.shape), larger)
