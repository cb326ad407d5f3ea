"""Latent diffusion on one page: text and noise in, image out (Rombach et al. 2022).

`LatentDiffusion` holds the networks of one model and their four operations: encode the prompt,
encode an image, denoise, decode. `generate` combines them for a notebook. The worker's engine uses
the same parts, with images that join and leave the batch between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoders.first_stage import FirstStage, Posterior
from models.autoencoders.overflow import Overflows, overflowed, single_precision_decoder
from models.autoencoders.pixels import from_bytes, to_bytes
from models.autoencoders.preview import LinearPreview, decode_preview, project_preview
from models.conditioners import Conditioner
from models.conditioners.concat_conditioning import ConcatConditioning, EditConditioning
from models.denoising.denoiser import Conditioning, Control, Controls, DenoisingState, advance
from models.denoising.masks import (
    MaskedContent,
    latent_mask,
    latent_strengths,
    marked,
    restore_unmarked,
)
from models.denoising.noise import ImageNoise
from models.denoising.patches import Patches
from models.denoising.sampling_params import ControlImage, SamplingParams
from models.denoising.tiled_state import TiledState, advance_tiles
from models.executors.base import Executors, Run
from models.executors.controlled import ControlledRuns
from models.executors.eager import OneByOne
from models.executors.tiling import bands, in_place_of
from models.networks.unet import AddedConditioning, UNet, guidance_embedding
from models.samplers import SamplerTable
from models.samplers.noise_schedule import NoiseLevels
from models.samplers.partial import compile_part

_NUMBERS = count()


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The networks of one model on one device, with the executors that run them.

    folder: the published files, which also hold the scheduler's configuration. concat_conditioning:
    the source of further input channels of the UNet, if it has any. patches: the patches in which
    the networks process images larger than one patch; None: every image as a whole. tiny: a small
    first stage for the same latents, which decodes faster with less detail, if there is one.
    linear_preview: a map from latents to approximate colours. Images of models with different
    `number` cannot share a step, even if only one layer differs. overflows: counts the images that
    were decoded again.
    """

    conditioner: Conditioner
    unet: UNet
    autoencoder: FirstStage
    executors: Executors
    noise_schedule: NoiseLevels
    device: torch.device
    dtype: torch.dtype
    folder: Path
    concat_conditioning: ConcatConditioning | None = None
    patches: Patches | None = None
    tiny: FirstStage | None = None
    linear_preview: LinearPreview | None = None
    overflows: Overflows = field(default_factory=Overflows)
    number: int = field(init=False, default_factory=_NUMBERS.__next__)
    _controlled: ControlledRuns = field(init=False, default_factory=ControlledRuns)

    @property
    def is_sdxl(self) -> bool:
        """Return True for SDXL and its refiner, which add pooled text and sizes to the time."""
        return self.unet.config.addition_embed_type == "text_time"

    @property
    def is_inpainting(self) -> bool:
        """Return True if the UNet is conditioned on the masked image and the mask."""
        return self.concat_conditioning is not None and self.concat_conditioning.is_inpainting

    @property
    def is_edit(self) -> bool:
        """Return True if the UNet edits the image that it is conditioned on."""
        return isinstance(self.concat_conditioning, EditConditioning)

    # -- images ---------------------------------------------------------------------------------

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (C, h, w) of the latents of an image of `width` and `height` pixels."""
        factor = self.autoencoder.config.factor
        return self.autoencoder.config.latent_channels, height // factor, width // factor

    def encode_image(self, image: Tensor) -> Posterior:
        """Encode (3, H, W) to the distribution of its unscaled latents (1, C, h, w).

        Float in [-1, 1]; or uint8, converted tile by tile where a large image is processed so.
        """
        return self.posterior([*self.encode_bands(image)])

    @torch.inference_mode()
    def encode_bands(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the parts from which `posterior` makes the result of `encode_image`."""

        def prepare(part: Tensor) -> Tensor:
            part = from_bytes(part) if part.dtype == torch.uint8 else part
            return part.to(self.device, self.autoencoder.dtype)

        yield from bands(self.executors.encoder, image[None], prepare)

    @torch.inference_mode()
    def posterior(self, parts: Sequence[Tensor]) -> Posterior:
        """Return the distribution of the latents that `encode_bands` has encoded."""
        return self.autoencoder.posterior(torch.cat([*parts], dim=-2).float())

    def sample_latents(self, posterior: Posterior, noise: ImageNoise) -> Tensor:
        """Return a sample (C, h, w) of encoded latents, scaled to unit variance."""
        sample = posterior.sample(noise.sample(self.device)[None])
        return self.autoencoder.scaled(sample[0])

    def decode(self, latents: Tensor, params: SamplingParams | None = None) -> Tensor:
        """Decode scaled latents (B, C, h, w) to images (B, H, W, 3), uint8 on the CPU.

        Models that also predict depth give (B, H, W, 5), see `models.autoencoders.pixels`. params:
        of the images, whose image and mask some first stages read for inpainting.
        """
        return torch.cat([*self.decode_bands(latents, params)], dim=1)

    @torch.inference_mode()
    def decode_bands(
        self, latents: Tensor, params: SamplingParams | None = None
    ) -> Iterator[Tensor]:
        """Yield the bands of the result of `decode`, from top to bottom.

        Each as bytes, because the floats of a large image take four times as much memory. From the
        first band on that overflows in half precision, the bands are decoded in single precision.
        """
        z, run = self.autoencoder.unscaled(latents), self.executors.decoder
        if params is not None and (conditioned := self._conditioned(z, params)) is not None:
            # Not in the executor, which is made for latents alone.
            eager: Callable[..., Tensor] = self.autoencoder.decode
            z, run = conditioned, in_place_of(run, OneByOne(eager))
        for index, band in enumerate(self._decoded(run, z.to(self.autoencoder.dtype))):
            if overflowed(band):
                yield from self._decode_again(z, index)
                return
            yield to_bytes(band.float()).cpu()

    def _conditioned(self, z: Tensor, params: SamplingParams) -> Tensor | None:
        """Return `z` with what the first stage reads for inpainting; None if that is nothing."""
        if params.image is None or params.mask is None:
            return None
        mask = params.mask > 0 if params.soft_mask else marked(params.mask)
        return self.autoencoder.conditioned(z, params.image, mask.float())

    def _decoded(self, run: Run, z: Tensor) -> Iterator[Tensor]:
        """Yield the bands of decoded latents."""
        if self.patches is None:
            return bands(run, z, lambda part: part)
        return iter([self.patches.run(run, z, scale=self.autoencoder.config.factor)])

    def _decode_again(self, z: Tensor, first: int) -> Iterator[Tensor]:
        """Yield the bands from `first` on, decoded in single precision."""
        self.overflows.count += 1
        run = in_place_of(self.executors.decoder, single_precision_decoder(self.autoencoder))
        for band in islice(self._decoded(run, z), first, None):
            yield to_bytes(band.float()).cpu()

    @torch.inference_mode()
    def decode_tiny(self, latents: Tensor) -> Tensor:
        """Decode with the tiny autoencoder, without depth: (B, C, h, w) -> (B, H, W, 3) uint8."""
        assert self.tiny is not None
        z = self.tiny.unscaled(latents)
        return to_bytes(self.tiny.decode(z.to(self.tiny.dtype)).float()).cpu()

    def preview(self, latents: Tensor) -> Tensor | None:
        """Return a small image (H, W, 3), uint8 on the CPU, of scaled latents (C, h, w).

        None if the model has neither a tiny autoencoder nor a linear preview.
        """
        if self.tiny is not None:
            return decode_preview(self.tiny, latents)
        if self.linear_preview is not None:
            return project_preview(self.linear_preview, latents)
        return None

    # -- denoising ------------------------------------------------------------------------------

    def start(self, params: SamplingParams, seeds: Sequence[int]) -> list[DenoisingState]:
        """Return the initial states of images that differ by seed only; `params.seed` is unused."""
        return self.start_encoded(params, seeds, self._posterior(params))

    def start_encoded(
        self, params: SamplingParams, seeds: Sequence[int], posterior: Posterior | None
    ) -> list[DenoisingState]:
        """Return the result of `start` for an initial image that is encoded already, if any."""
        shape = self.latent_shape(params.width, params.height)
        noises = [ImageNoise(seed, shape) for seed in seeds]
        return [self._start(params, noise, posterior) for noise in noises]

    def start_with(self, params: SamplingParams, noise: ImageNoise) -> DenoisingState:
        """Return the result of `start` for one image that goes on with a stream of noise."""
        return self._start(params, noise, self._posterior(params))

    def _start(
        self, params: SamplingParams, noise: ImageNoise, posterior: Posterior | None
    ) -> DenoisingState:
        source = None if posterior is None else self.sample_latents(posterior, noise)
        return self.begin(params, noise, source)

    def _posterior(self, params: SamplingParams) -> Posterior | None:
        """Encode the initial image, if there is one that is not given to the UNet as a whole."""
        if params.image is None or not self.starts_from_image(params):
            return None
        return self.encode_image(params.image)

    def starts_from_image(self, params: SamplingParams) -> bool:
        """Return False if the initial image is given to the UNet only."""
        known = self.concat_conditioning is not None and self.concat_conditioning.holds_image
        return not (known and params.strength == 1 and not params.soft_mask)

    def begin(
        self, params: SamplingParams, noise: ImageNoise, source: Tensor | None = None
    ) -> DenoisingState:
        """Return one image before its first step, from noise or from `source` latents (C, h, w)."""
        positive, negative = self.conditionings(params)
        concat = self._concat_channels(params, noise, first=True)
        state = DenoisingState.start(
            self.table(params, from_noise=source is None),
            noise,
            self.device,
            positive,
            source=source,
            mask=self._known_mask(params),
            soft_mask=params.soft_mask,
            content=self._masked_content(params),
            noise_multiplier=params.noise_multiplier,
            negative=negative,
            guidance_scale=params.guidance_scale,
            guidance_rescale=params.guidance_rescale,
            guidance_interval=params.guidance_interval,
            controls=tuple(self.embed_control(control, params) for control in params.controls),
            image_guidance_scale=self.image_guidance_scale(params),
        )
        # It may take noise, too: before or after the initial noise.
        state.concat = (
            self._concat_channels(params, noise, first=False) if concat is None else concat
        )
        return state

    def conditionings(self, params: SamplingParams) -> tuple[Conditioning, Conditioning | None]:
        """Return the positive and the negative conditioning; the latter is None without guidance.

        A network distilled with guidance is conditioned on the guidance scale instead and needs no
        second row.
        """
        positive, width = self.conditioner.positive(params), self.unet.config.time_cond_proj_dim
        if width is not None:
            guidance = guidance_embedding(params.guidance_scale, width).to(self.device)
            return self._labelled(replace(positive, guidance=guidance), params), None
        negative = self.conditioner.negative(params) if params.guidance_scale > 1 else None
        negative = negative and self._labelled(negative, params)
        return self._labelled(positive, params), negative

    def _labelled(self, conditioning: Conditioning, params: SamplingParams) -> Conditioning:
        """Return the conditioning with the noise level of the image, if the network reads it."""
        if self.unet.config.num_class_embeds is None:
            return conditioning
        label = torch.tensor(float(params.noise_level), device=self.device)
        return replace(conditioning, label=label)

    def image_guidance_scale(self, params: SamplingParams) -> float:
        """Return the image guidance scale for networks that edit images, 1 for all others."""
        return params.image_guidance_scale if self.is_edit else 1.0

    def guided_rows(self, params: SamplingParams) -> int:
        """Return the rows of the network for one image or tile at a step with guidance."""
        if params.guidance_scale <= 1:
            return 1
        return 2 + (self.image_guidance_scale(params) != 1.0)

    @torch.inference_mode()
    def embed_control(self, control: ControlImage, params: SamplingParams) -> Control:
        """Embed a control image, resized to the size of the image to generate."""
        size = (params.height, params.width)
        image = control.image[None].to(self.device)
        if image.shape[-2:] != size:
            scaled = F.interpolate(image, size=size, mode="bicubic", antialias=True)
            image = scaled.clamp(0, 1)
        hint = control.net.embed(image.to(self.dtype))[0].float()
        return Control(control.net, hint, control.weight, control.interval)

    def _known_mask(self, params: SamplingParams) -> Tensor | None:
        """Return the mask of the latents whose surroundings are kept by the sampler.

        A network for inpainting does that itself, except for the strengths of a soft mask.
        """
        if self.is_inpainting and not params.soft_mask:
            return None
        return self._latent_mask(params)

    def _latent_mask(self, params: SamplingParams) -> Tensor | None:
        if params.mask is None:
            return None
        size = self.latent_shape(params.width, params.height)[1:]
        resize = latent_strengths if params.soft_mask else latent_mask
        return resize(params.mask, size).to(self.device)

    def _masked_content(self, params: SamplingParams) -> MaskedContent | None:
        mask = None if params.masked_noise is None else self._latent_mask(params)
        return None if mask is None else MaskedContent(mask, params.masked_noise or 0.0)

    def _concat_channels(
        self, params: SamplingParams, noise: ImageNoise, *, first: bool
    ) -> Tensor | None:
        """Return the further input channels of the UNet, (K, h, w), if it has any.

        first: those whose noise comes before the initial noise; otherwise the others.
        """
        if self.concat_conditioning is None or self.concat_conditioning.comes_first != first:
            return None
        size = self.latent_shape(params.width, params.height)[1:]
        if params.soft_mask and params.mask is not None:  # whatever may change is marked
            params = replace(params, mask=(params.mask > 0).float())
        channels = self.concat_conditioning.channels(params, size, _ImageEncoder(self, noise))
        return channels.to(self.device, torch.float32)

    def table(self, params: SamplingParams, *, from_noise: bool) -> SamplerTable:
        """Compile the sampler of `params` for this model's noise schedule."""
        # Inpainting at full strength starts from pure noise, as if there were no initial image.
        from_noise = from_noise or (params.mask is not None and params.strength == 1)
        return compile_part(
            params.sampler,
            params.schedule,
            params.steps,
            self.noise_schedule,
            None if from_noise else params.strength,
            denoising_end=params.denoising_end,
            eta=params.eta,
        )

    def advance(self, batch: list[DenoisingState]) -> None:
        """Take one denoising step for every state in `batch`."""
        advance(self._denoise, batch, self.dtype, self.executors.update)

    def advance_tiles(self, batch: list[TiledState]) -> None:
        """Run the network on the next tiles of every state in `batch`."""
        advance_tiles(self._denoise, batch, self.dtype, self.executors.update)

    def _denoise(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None,
        added: AddedConditioning | None,
        controls: Controls | None,
    ) -> Tensor:
        conditioning: tuple[Tensor, ...] = () if context is None else (context,)
        conditioning += () if added is None else added.tensors
        if controls is None and self.patches is not None:
            return self.patches.run(self.executors.denoiser, x, timestep, *conditioning)
        if controls is None:
            return self.executors.denoiser(x, timestep, *conditioning)
        run = self._controlled.get(self.unet, controls.nets, self.executors.controlled)
        return run(x, timestep, *conditioning, *controls.hints, controls.weights)

    def postprocess(self, params: SamplingParams, image: Tensor) -> Tensor:
        """Return the final image of a decoded one, both (H, W, C) uint8.

        Inpainting restores the pixels outside the mask, which the autoencoder changes.
        """
        if params.image is None or params.mask is None:
            return image
        return restore_unmarked(image, params.image, params.mask)

    def generate(self, params: Sequence[SamplingParams]) -> Iterator[list[DenoisingState]]:
        """Generate several images of one size together and yield after every step.

        The last yield holds the finished latents: `decode(torch.stack([s.x for s in last]))`.
        """
        batch = [state for one in params for state in self.start(one, [one.seed])]
        while running := [state for state in batch if not state.done]:
            self.advance(running)
            yield batch


@dataclass(frozen=True)
class _ImageEncoder:
    """Encoder of concat conditioning: implements `concat_conditioning.ImageEncoder`."""

    model: LatentDiffusion
    noise: ImageNoise

    def mode(self, image: Tensor) -> Tensor:
        return self.model.autoencoder.scaled(self.unscaled_mode(image))

    def unscaled_mode(self, image: Tensor) -> Tensor:
        return self.model.encode_image(image).mode()[0]

    def fresh_noise(self, shape: tuple[int, int, int]) -> Tensor:
        return self.noise.resized(shape).sample(self.model.device)

    def sample(self, image: Tensor) -> Tensor:
        return self.model.sample_latents(self.model.encode_image(image), self.noise)
