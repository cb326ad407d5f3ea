"""Stage two: the diffusion model in latent space, with its text transformer (Rombach et al. 2022).

The networks learn v = sqrt(ā) ε - sqrt(1 - ā) x_0 (Salimans and Ho 2022), which unlike ε keeps
saying something where next to no signal is left, so that whole shapes and flat backgrounds come
out right on few training steps.
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
from training.ema import EMA
from training.grids import grid
from training.latents import Latents
from training.layout import channels_last
from training.parallel import PartialGradients
from training.presets import Preset
from training.runner import learning_rate, set_learning_rate
from training.tokens import CaptionTokens

LEARNING_RATE = 5e-4
CAPTION_DROPOUT = 0.1
# Of a batch, computed at the same time: larger parts run faster, more parts share cores better.
PARTS = 2
GUIDANCE_SCALE = 4.0

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
    """What stage two learns from: N drawings' latents and captions, and how often to see each."""

    latents: Latents
    captions: CaptionTokens
    weights: Tensor


@dataclass(frozen=True)
class Batch:
    """Clean latents and noise (B, C, h, w), timesteps (B,), token ids (B, T)."""

    x_0: Tensor
    noise: Tensor
    timestep: Tensor
    ids: Tensor

    def split(self, count: int) -> list[Batch]:
        """`count` equal batches, in order."""
        fields = (self.x_0, self.noise, self.timestep, self.ids)
        return [Batch(*part) for part in zip(*(f.chunk(count) for f in fields), strict=True)]


def initialise(unet: UNet, text_encoder: TextEncoder) -> None:
    """Residual branches of the UNet start silent; words start louder than their positions."""
    for name, parameter in unet.named_parameters():
        if name.endswith("proj_out.weight"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(unet.conv_out.weight)
    embeddings = text_encoder.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.3)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.05)


class DiffusionStage:
    """Trains UNet and text encoder together; the autoencoder only decodes the sample grids."""

    def __init__(
        self,
        preset: Preset,
        examples: Examples,
        autoencoder: AutoencoderKL,
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.examples, self.batch_size, self.image_size = examples, batch_size, preset.image_size
        self.tokenizer = tokenizer
        self.generator = torch.Generator().manual_seed(seed)
        self.unet = UNet(preset.unet)
        self.text_encoder = TextEncoder(preset.text_encoder)
        initialise(self.unet, self.text_encoder)
        channels_last(self.unet)
        use_training_kernel(self.unet, self.text_encoder)
        self.autoencoder = autoencoder
        self.noise_schedule = NoiseSchedule.from_config(SCHEDULER)
        self.alphas_cumprod = torch.tensor(self.noise_schedule.alphas_cumprod).float()
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
        """Drawings, one caption of each, timesteps, noise; `progress` is the share trained."""
        generator, size = self.generator, self.batch_size
        chosen = torch.multinomial(self.examples.weights, size, True, generator=generator)
        x_0 = self.examples.latents.sample(chosen, generator)
        return Batch(
            x_0=x_0,
            noise=torch.randn(x_0.shape, generator=generator),
            timestep=self.timesteps(progress),
            ids=self.examples.captions.draw(chosen, CAPTION_DROPOUT, generator),
        )

    def timesteps(self, progress: float) -> Tensor:
        """Random timesteps (B,), at first mostly noisy ones, at the end of training uniform.

        Where x shows next to nothing only the caption can lower the loss, so that is where the
        networks learn to read; details can wait.
        """
        share = torch.rand(self.batch_size, generator=self.generator) ** max(0.4, progress)
        return (share * len(self.alphas_cumprod)).long()

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error of v."""
        alpha_bar = self.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1)
        signal, noisiness = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x = signal * batch.x_0 + noisiness * batch.noise
        with torch.autocast("cpu", torch.bfloat16):
            context = self.text_encoder(batch.ids).last
            x = x.contiguous(memory_format=torch.channels_last)
            v = self.unet(x, batch.timestep.float(), context)
        return F.mse_loss(v.float(), signal * batch.noise - noisiness * batch.x_0)

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE))
        parts = self.batch(step / total_steps).split(PARTS)
        loss = self.gradients.backward([partial(self.loss, part) for part in parts])
        torch.nn.utils.clip_grad_norm_(self.ema.parameters, 1.0)
        self.optimizer.step()
        self.ema.update()
        return {"loss": loss}

    def model(self) -> LatentDiffusion:
        """The model as it stands, sharing the networks that are being trained."""
        return LatentDiffusion(
            conditioner=ClipConditioner(
                (TextStage(self.tokenizer, self.text_encoder),), torch.device("cpu")
            ),
            unet=self.unet,
            autoencoder=self.autoencoder,
            executors=eager_executors(self.unet, self.autoencoder),
            noise_schedule=self.noise_schedule,
            device=torch.device("cpu"),
            dtype=torch.float32,
            folder=Path(),  # nothing is published yet
        )

    def grid(self) -> Image.Image:
        """One drawing for each of `GRID_PROMPTS`, by the averaged weights."""
        self.ema.swap()
        pictures = draw(self.model(), GRID_PROMPTS, self.image_size)
        self.ema.swap()
        return pictures


def draw(model: LatentDiffusion, prompts: list[str], size: int, *, seed: int = 0) -> Image.Image:
    """A grid with one picture a prompt."""
    common = SamplingParams("", width=size, height=size, steps=20, guidance_scale=GUIDANCE_SCALE)
    recipes = [replace(common, prompt=p, seed=seed + i) for i, p in enumerate(prompts)]
    *_, batch = model.generate(recipes)
    pixels = model.decode(torch.stack([trajectory.x for trajectory in batch]))
    return grid(pixels.numpy(), columns=12)
