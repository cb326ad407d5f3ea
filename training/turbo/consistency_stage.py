"""Distillation of guidance and steps into a LoRA: latent consistency distillation.

The networks stay as they are and are the teacher. At a random level of 50, the student's prediction
of the clean latents shall equal its own prediction one DDIM step of the guided teacher further
(Luo et al. 2023, "LCM-LoRA" and "Latent Consistency Models", eq. 14 and algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from models.denoising.sampling_params import SamplingParams
from models.executors.eager import eager_executors
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.samplers.methods.consistency import SIGMA_DATA, TIMESTEP_SCALING
from training.checkpointing import Stateful
from training.device import autocast
from training.diffusion_stage import (
    GRID_PROMPTS,
    GUIDANCE_SCALE,
    PARTS,
    DiffusionStage,
    generate_grid,
)
from training.ema import EMA
from training.parallel import PartialGradients
from training.runner import learning_rate, set_learning_rate
from training.turbo.low_rank import LowRankCopy

# The loss is small from the start: with 5e-4 noise in the gradients became noise in the images.
LEARNING_RATE = 1e-4
RANK = 32
# Levels of the teacher's solver; published LCM-LoRAs and the "lcm" schedule have as many.
SOLVER_STEPS = 50
HUBER = 0.001

#: How images are generated with the LoRA.
TURBO = SamplingParams("", steps=4, guidance_scale=1.0, sampler="lcm")


class ConsistencyStage:
    """Training of a LoRA on the examples of a finished diffusion stage."""

    def __init__(self, trained: DiffusionStage, rank: int = RANK, seed: int = 0) -> None:
        self.trained = trained
        self.device = trained.device
        self.generator = torch.Generator().manual_seed(seed)
        trained.unet.requires_grad_(False)
        trained.text_encoder.requires_grad_(False)
        torch.manual_seed(seed)
        self.student = LowRankCopy(trained.unet, rank)
        assert isinstance(self.student.network, UNet)
        self.network: UNet = self.student.network
        self.ema = EMA([self.student.module], decay=0.995)
        self.gradients = PartialGradients(self.ema.parameters)
        self.optimizer = torch.optim.AdamW(
            self.ema.parameters, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        stride = len(trained.alphas_cumprod) // SOLVER_STEPS
        self.timesteps = torch.arange(1, SOLVER_STEPS + 1, device=self.device) * stride - 1

    def parts(self) -> Mapping[str, Stateful]:
        return {"lora": self.student.module, "ema": self.ema, "optimizer": self.optimizer}

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        set_learning_rate(self.optimizer, learning_rate(step, total_steps, LEARNING_RATE, 50))
        x_0, noise, ids = self.batch()
        places = torch.randint(SOLVER_STEPS, (len(x_0),), generator=self.generator)
        parts = zip(
            *(t.to(self.device).chunk(PARTS) for t in (x_0, noise, ids, places)), strict=True
        )
        loss = self.gradients.backward([partial(self.loss, *part) for part in parts])
        self.optimizer.step()
        self.ema.update()
        return {"loss": loss}

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return random clean latents and noise (B, C, h, w), and token ids (B, T)."""
        examples, size = self.trained.examples, self.trained.batch_size
        chosen = torch.multinomial(examples.weights, size, True, generator=self.generator)
        x_0 = examples.latents.sample(chosen, self.generator)
        noise = torch.randn(x_0.shape, generator=self.generator)
        return x_0, noise, examples.captions.sample(chosen, 0.0, self.generator)

    def loss(self, x_0: Tensor, noise: Tensor, ids: Tensor, places: Tensor) -> Tensor:
        """Return the Huber loss between predictions at neighbouring levels."""
        start = self.timesteps[places]
        signal, noisiness = self.level(start)
        x = signal * x_0 + noisiness * noise
        with torch.no_grad():
            context, empty = self.contexts(ids)
            below = (places > 0) * (self.timesteps[(places - 1).clamp(min=0)])
            earlier = self.teacher_step(x, start, below, context, empty)
            wanted = self.consistent(earlier, below, context)
        predicted = self.consistent(x, start, context)
        return (((predicted - wanted).square() + HUBER**2).sqrt() - HUBER).mean()

    def contexts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the text encoder's states of captions (B, T) and of the empty caption."""
        empty = self.trained.examples.captions.empty.to(self.device).expand_as(ids)
        with autocast(self.device):
            states: Tensor = self.trained.text_encoder(torch.cat([ids, empty])).last
        caption, none = states.chunk(2)
        return caption, none

    def level(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares of signal and noise at timesteps (B,), each (B, 1, 1, 1)."""
        alpha_bar = self.trained.alphas_cumprod[timestep].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def teacher_step(
        self, x: Tensor, timestep: Tensor, below: Tensor, context: Tensor, empty: Tensor
    ) -> Tensor:
        """Return x one DDIM step of the guided teacher further, at the timestep `below`."""
        both = (torch.cat([x, x]), torch.cat([timestep, timestep]), torch.cat([context, empty]))
        guided, free = self.velocity(self.trained.unet, *both).chunk(2)
        v = free + GUIDANCE_SCALE * (guided - free)
        signal, noisiness = self.level(timestep)
        x_0, noise = signal * x - noisiness * v, noisiness * x + signal * v
        signal, noisiness = self.level(below)
        return signal * x_0 + noisiness * noise

    def consistent(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Return the student's prediction of the clean latents, which is x itself at timestep 0."""
        signal, noisiness = self.level(timestep)
        x_0 = signal * x - noisiness * self.velocity(self.network, x, timestep, context)
        scaled = timestep.view(-1, 1, 1, 1) * TIMESTEP_SCALING
        total = scaled**2 + SIGMA_DATA**2
        return SIGMA_DATA**2 / total * x + scaled / total.sqrt() * x_0

    def velocity(self, unet: UNet, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Return the output of a UNet in single precision."""
        with autocast(self.device):
            x = x.contiguous(memory_format=torch.channels_last)
            v: Tensor = unet(x, timestep.float(), context)
        return v.float()

    def grid(self) -> Image.Image:
        """Generate an image in four steps for each of `GRID_PROMPTS`, with the averages."""
        self.ema.swap()
        side = self.trained.image_size
        images = generate_grid(self.model(), GRID_PROMPTS, side, settings=TURBO)
        self.ema.swap()
        return images

    def model(self) -> LatentDiffusion:
        """Return the model with the LoRA as it is now."""
        trained = self.trained.model()
        executors = eager_executors(self.network, trained.autoencoder)
        return replace(trained, unet=self.network, executors=executors)
