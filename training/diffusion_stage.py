"""Stage two: the diffusion model in latent space, with its text transformer (Rombach et al. 2022).

The networks predict v = sqrt(ā) ε - sqrt(1 - ā) x_0 (Salimans and Ho 2022). Unlike ε, v depends on
the image even at the highest noise levels, so that shapes and flat backgrounds are right after few
training steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.conditioners.clip import ClipConditioner, TextStage
from models.denoising.sampling_params import SamplingParams
from models.executors.eager import eager_executors
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.samplers.noise_schedule import NoiseSchedule
from models.text.tokenizer import Tokenizer
from training.attention import use_training_kernel
from training.checkpointing import Stateful
from training.device import autocast, channels_last, training_device
from training.ema import EMA
from training.grids import grid
from training.latents import Latents
from training.parallel import PartialGradients
from training.presets import Preset
from training.runner import learning_rate, set_learning_rate
from training.tokens import CaptionTokens

LEARNING_RATE = 5e-4
CAPTION_DROPOUT = 0.1
# Parts of a batch that run at the same time: fewer, larger parts are faster; more use cores better.
PARTS = 2
GUIDANCE_SCALE = 4.0
GRID_SETTINGS = SamplingParams("", steps=20, guidance_scale=GUIDANCE_SCALE)

#: `scheduler_config.json` of the bundled model.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}

_GRID_PROMPTS = """
red heart, pizza, crescent moon, cat, dog, star, sun, house, car, tree, flower, smiley
rocket, red apple, birthday cake, rainbow, fire, robot, ghost, sunflower, penguin, guitar, snowman
hamburger
"""
GRID_PROMPTS = [name.strip() for name in _GRID_PROMPTS.strip().replace("\n", ",").split(",")]


@dataclass(frozen=True)
class Examples:
    """Latents, captions and sampling weights of N images."""

    latents: Latents
    captions: CaptionTokens
    weights: Tensor


@dataclass(frozen=True)
class Batch:
    """Clean latents and noise (B, C, h, w), timesteps (B,) and token ids (B, T)."""

    x_0: Tensor
    noise: Tensor
    timestep: Tensor
    ids: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        fields = (self.x_0, self.noise, self.timestep, self.ids)
        return Batch(*(field.to(device) for field in fields))

    def split(self, count: int) -> list[Batch]:
        """Split the batch into `count` equal batches, in order."""
        fields = (self.x_0, self.noise, self.timestep, self.ids)
        return [Batch(*part) for part in zip(*(f.chunk(count) for f in fields), strict=True)]


def initialise(unet: UNet, text_encoder: TextEncoder) -> None:
    """Set residual branches of the UNet to zero, and token embeddings larger than positions'."""
    for name, parameter in unet.named_parameters():
        if name.endswith("proj_out.weight"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(unet.conv_out.weight)
    embeddings = text_encoder.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.3)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.05)


class DiffusionStage:
    """Joint training of UNet and text encoder; the autoencoder only decodes the sample grids."""

    def __init__(
        self,
        preset: Preset,
        examples: Examples,
        autoencoder: AutoencoderKL,
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int = 0,
        peak_rate: float = LEARNING_RATE,
    ) -> None:
        torch.manual_seed(seed)
        self.peak_rate = peak_rate
        self.examples, self.batch_size, self.image_size = examples, batch_size, preset.image_size
        self.tokenizer = tokenizer
        self.generator = torch.Generator().manual_seed(seed)
        self.device = training_device()
        self.unet = UNet(preset.unet).to(self.device)
        self.text_encoder = TextEncoder(preset.text_encoder).to(self.device)
        initialise(self.unet, self.text_encoder)
        channels_last(self.unet)
        use_training_kernel(self.unet, self.text_encoder)
        self.autoencoder = autoencoder.to(self.device)
        self.noise_schedule = NoiseSchedule.from_config(SCHEDULER)
        alphas_cumprod = torch.tensor(self.noise_schedule.alphas_cumprod).float()
        self.alphas_cumprod = alphas_cumprod.to(self.device)
        networks = (self.unet, self.text_encoder)
        self.ema = EMA(networks, decay=0.998)
        self.gradients = PartialGradients(self.ema.parameters)
        self.optimizer = torch.optim.AdamW(
            self.ema.parameters, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )

    def parts(self) -> Mapping[str, Stateful]:
        return {
            "unet": self.unet,
            "text_encoder": self.text_encoder,
            "ema": self.ema,
            "optimizer": self.optimizer,
        }

    def batch(self, progress: float) -> Batch:
        """Return random latents with captions, timesteps and noise; `progress` is in [0, 1]."""
        generator, size = self.generator, self.batch_size
        chosen = torch.multinomial(self.examples.weights, size, True, generator=generator)
        x_0 = self.examples.latents.sample(chosen, generator)
        return Batch(
            x_0=x_0,
            noise=torch.randn(x_0.shape, generator=generator),
            timestep=self.timesteps(progress),
            ids=self.examples.captions.sample(chosen, CAPTION_DROPOUT, generator),
        )

    def timesteps(self, progress: float) -> Tensor:
        """Return random timesteps (B,): mostly high noise at first, uniform at the end of training.

        At high noise only the caption can lower the loss, so the networks learn its meaning there;
        details are learned later.
        """
        share = torch.rand(self.batch_size, generator=self.generator) ** max(0.4, progress)
        return (share * len(self.alphas_cumprod)).long()

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean squared error of v."""
        alpha_bar = self.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1)
        signal, noisiness = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x = signal * batch.x_0 + noisiness * batch.noise
        with autocast(self.device):
            context = self.text_encoder(batch.ids).last
            x = x.contiguous(memory_format=torch.channels_last)
            v = self.unet(x, batch.timestep.float(), context)
        target = signal * batch.noise - noisiness * batch.x_0
        return F.mse_loss(v.float(), target)

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, self.peak_rate))
        parts = self.batch(step / total_steps).to(self.device).split(PARTS)
        loss = self.gradients.backward([partial(self.loss, part) for part in parts])
        torch.nn.utils.clip_grad_norm_(self.ema.parameters, 1.0)
        self.optimizer.step()
        self.ema.update()
        return {"loss": loss}

    def model(self) -> LatentDiffusion:
        """Return the current model, which shares the networks that are trained."""
        return LatentDiffusion(
            conditioner=ClipConditioner(
                (TextStage(self.tokenizer, self.text_encoder),), self.device
            ),
            unet=self.unet,
            autoencoder=self.autoencoder,
            executors=eager_executors(self.unet, self.autoencoder),
            noise_schedule=self.noise_schedule,
            device=self.device,
            dtype=torch.float32,
            folder=Path(),  # no files exist yet
        )

    def grid(self) -> Image.Image:
        """Generate an image for each of `GRID_PROMPTS` with the averaged weights."""
        self.ema.swap()
        images = generate_grid(self.model(), GRID_PROMPTS, self.image_size)
        self.ema.swap()
        return images


def generate_grid(
    model: LatentDiffusion,
    prompts: list[str],
    size: int,
    *,
    seed: int = 0,
    settings: SamplingParams = GRID_SETTINGS,
) -> Image.Image:
    """Generate a grid with one image for each prompt; the first has `seed`."""
    common = replace(settings, width=size, height=size)
    params = [replace(common, prompt=p, seed=seed + i) for i, p in enumerate(prompts)]
    *_, batch = model.generate(params)
    pixels = model.decode(torch.stack([state.x for state in batch]))
    return grid(pixels.numpy(), columns=12)
