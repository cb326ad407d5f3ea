"""Latent diffusion on one page: text and noise in, picture out (Rombach et al. 2022).

`LatentDiffusion` holds the networks of one model and the four things they do: read what is wanted,
encode a picture, denoise, decode. `generate` puts them together for a notebook; the worker's
engine uses the same parts, with images joining and leaving between steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoders.first_stage import FirstStage, Posterior
from models.autoencoders.pixels import to_bytes
from models.autoencoders.preview import LinearPreview, decoded_small, mixed_small
from models.conditioners import Conditioner
from models.conditioners.concat_conditioning import Beside
from models.denoising.denoiser import Conditioning, Control, Controls, DenoisingState, advance
from models.denoising.masks import latent_mask, restore_unmarked
from models.denoising.noise import ImageNoise
from models.denoising.patches import Patches
from models.denoising.sampling_params import ControlPicture, SamplingParams
from models.executors.base import Executors, Run
from models.executors.controlled import ControlledRuns
from models.networks.unet import AddedConditioning, UNet, guidance_embedding
from models.samplers import SamplerTable
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.partial import compile_part

_NUMBERS = count()


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The networks of one model, on one device, and what runs them there.

    folder: the published files, for what else they say (the scheduler). beside: what the UNet is
    shown with the latents, if anything. patches: in which the networks see pictures that are larger
    than one; None: as a whole. tiny: a small first stage for the same latents, if there is one: it
    decodes faster, with less detail. sketch: what shows roughly what latents will look like.
    Pictures of models with another `number` cannot share a step, be it that only one layer differs.
    """

    conditioner: Conditioner
    unet: UNet
    autoencoder: FirstStage
    executors: Executors
    noise_schedule: NoiseSchedule
    device: torch.device
    dtype: torch.dtype
    folder: Path
    beside: Beside | None = None
    patches: Patches | None = None
    tiny: FirstStage | None = None
    sketch: LinearPreview | None = None
    number: int = field(init=False, default_factory=_NUMBERS.__next__)
    _controlled: ControlledRuns = field(init=False, default_factory=ControlledRuns)

    @property
    def is_sdxl(self) -> bool:
        return self.unet.config.addition_embed_type == "text_time"

    @property
    def repaints(self) -> bool:
        """Whether the UNet itself sees what is to stay of a picture."""
        return self.beside is not None and self.beside.repaints

    # -- pictures -------------------------------------------------------------------------------

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        factor = self.autoencoder.config.factor
        return self.autoencoder.config.latent_channels, height // factor, width // factor

    @torch.inference_mode()
    def encode_image(self, image: Tensor) -> Posterior:
        """(3, H, W) in [-1, 1] -> what its latents (1, C, h, w) may be, unscaled."""
        moments = self.executors.encoder(image[None].to(self.device, self.autoencoder.dtype))
        return self.autoencoder.posterior(moments.float())

    def sample_latents(self, posterior: Posterior, noise: ImageNoise) -> Tensor:
        """A sample (C, h, w) of encoded latents, scaled to unit variance."""
        sample = posterior.sample(noise.draw(self.device)[None])
        return sample[0] * self.autoencoder.config.scaling_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) -> pictures (B, H, W, 3), uint8 on the CPU; of a model that
        tells depth as well (B, H, W, 5), see `models.autoencoders.pixels`."""
        z = latents / self.autoencoder.config.scaling_factor
        z, scale = z.to(self.autoencoder.dtype), self.autoencoder.config.factor
        image = self._in_patches(self.executors.decoder, z, scale=scale).float()
        return to_bytes(image).cpu()

    @torch.inference_mode()
    def decode_tiny(self, latents: Tensor) -> Tensor:
        """Like `decode`, by the tiny autoencoder, which there must be: pictures only, no depth."""
        assert self.tiny is not None
        z = latents / self.tiny.config.scaling_factor
        return to_bytes(self.tiny.decode(z.to(self.tiny.dtype)).float()).cpu()

    def preview(self, latents: Tensor) -> Tensor | None:
        """Scaled latents (C, h, w) -> a small picture (H, W, 3), uint8 on the CPU; None where
        there is neither a tiny autoencoder nor a sketch."""
        if self.tiny is not None:
            return decoded_small(self.tiny, latents)
        return None if self.sketch is None else mixed_small(self.sketch, latents)

    # -- the whole way --------------------------------------------------------------------------

    def start(self, recipe: SamplingParams, seeds: Sequence[int]) -> list[DenoisingState]:
        """The starts of pictures that differ by seed only: `seeds` count, not the recipe's."""
        posterior = self._posterior(recipe)
        starts = []
        for seed in seeds:
            noise = ImageNoise(seed, self.latent_shape(recipe.width, recipe.height))
            source = None if posterior is None else self.sample_latents(posterior, noise)
            starts.append(self.begin(recipe, noise, source))
        return starts

    def _posterior(self, recipe: SamplingParams) -> Posterior | None:
        """Of the picture to start from, if there is one that the network does not see anyway."""
        if recipe.image is None or (self.repaints and recipe.strength == 1):
            return None
        return self.encode_image(recipe.image)

    def begin(
        self, recipe: SamplingParams, noise: ImageNoise, source: Tensor | None = None
    ) -> DenoisingState:
        """One picture before its first step, from noise or from the `source` latents (C, h, w)."""
        positive, negative = self.said(recipe)
        trajectory = DenoisingState.start(
            self.table(recipe, from_noise=source is None),
            noise,
            self.device,
            positive,
            source=source,
            mask=self._known_mask(recipe),
            negative=negative,
            guidance_scale=recipe.guidance_scale,
            guidance_rescale=recipe.guidance_rescale,
            guided_between=recipe.guided_between,
            controls=tuple(self._control(shown, recipe) for shown in recipe.controls),
        )
        # Afterwards, for it may draw noise too, and the initial noise comes first.
        trajectory.concat = self._shown(recipe, noise)
        return trajectory

    def said(self, recipe: SamplingParams) -> tuple[Conditioning, Conditioning | None]:
        """What the network is told, and what the picture is guided away from, if it is.

        A network distilled with guidance is told how strong that is, and needs no second row.
        """
        positive, width = self.conditioner.positive(recipe), self.unet.config.time_cond_proj_dim
        if width is not None:
            guidance = guidance_embedding(recipe.guidance_scale, width).to(self.device)
            return replace(positive, guidance=guidance), None
        return positive, self.conditioner.negative(recipe) if recipe.guidance_scale > 1 else None

    @torch.inference_mode()
    def _control(self, shown: ControlPicture, recipe: SamplingParams) -> Control:
        """The hint of a control picture, at the size of the picture to be drawn."""
        size = (recipe.height, recipe.width)
        image = shown.image[None].to(self.device)
        if image.shape[-2:] != size:
            scaled = F.interpolate(image, size=size, mode="bicubic", antialias=True)
            image = scaled.clamp(0, 1)
        hint = shown.net.embed(image.to(self.dtype))[0].float()
        return Control(shown.net, hint, shown.weight, shown.between)

    def _known_mask(self, recipe: SamplingParams) -> Tensor | None:
        if recipe.mask is None or self.repaints:
            return None
        size = self.latent_shape(recipe.width, recipe.height)[1:]
        return latent_mask(recipe.mask, size).to(self.device)

    def _shown(self, recipe: SamplingParams, noise: ImageNoise) -> Tensor | None:
        """What stands beside the latents, (K, h, w)."""
        if self.beside is None:
            return None
        size = self.latent_shape(recipe.width, recipe.height)[1:]
        shown = self.beside.channels(recipe, size, _Encoding(self, noise))
        return shown.to(self.device, torch.float32)

    def table(self, recipe: SamplingParams, *, from_noise: bool) -> SamplerTable:
        """The recipe's sampler, compiled for this model."""
        # Inpainting at full strength repaints from pure noise, as if there were no picture below.
        from_noise = from_noise or (recipe.mask is not None and recipe.strength == 1)
        return compile_part(
            recipe.sampler,
            recipe.schedule,
            recipe.steps,
            self.noise_schedule,
            None if from_noise else recipe.strength,
            until=recipe.until,
            eta=recipe.eta,
        )

    def advance(self, batch: list[DenoisingState]) -> None:
        """One denoising step of every trajectory in `batch`."""
        advance(self._denoise, batch, self.dtype, self.executors.update)

    def _denoise(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None,
        added: AddedConditioning | None,
        controls: Controls | None,
    ) -> Tensor:
        said = () if context is None else (context,)
        more = () if added is None else added.tensors
        if controls is None:
            return self._in_patches(self.executors.denoiser, x, timestep, *said, *more)
        run = self._controlled.get(self.unet, controls.nets, self.executors.controlled)
        return run(x, timestep, *said, *more, *controls.hints, controls.weights)

    def _in_patches(self, network: Run, x: Tensor, *rest: Tensor, scale: int = 1) -> Tensor:
        if self.patches is None:
            return network(x, *rest)
        return self.patches.run(network, x, *rest, scale=scale)

    def finish(self, recipe: SamplingParams, picture: Tensor) -> Tensor:
        """A decoded picture (H, W, 3), uint8, as it is handed out."""
        if recipe.image is None or recipe.mask is None:
            return picture
        return restore_unmarked(picture, recipe.image, recipe.mask)

    def generate(self, recipes: Sequence[SamplingParams]) -> Iterator[list[DenoisingState]]:
        """Draw several pictures of one size together; yields after every step.

        The last yield holds the finished latents: `decode(torch.stack([t.x for t in last]))`.
        """
        batch = [start for recipe in recipes for start in self.start(recipe, [recipe.seed])]
        while running := [t for t in batch if not t.done]:
            self.advance(running)
            yield batch


@dataclass(frozen=True)
class _Encoding:
    """How pictures that are shown beside the latents are encoded: a
    `models.conditioners.concat_conditioning.Encoding`."""

    model: LatentDiffusion
    noise: ImageNoise

    def likeliest(self, image: Tensor) -> Tensor:
        mode = self.model.encode_image(image).mode()[0]
        return mode * self.model.autoencoder.config.scaling_factor

    def sample(self, image: Tensor) -> Tensor:
        return self.model.sample_latents(self.model.encode_image(image), self.noise)
