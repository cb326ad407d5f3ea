"""diffusers' schedulers, stepped as its pipelines step them.

Where a scheduler has no Karras option, its own step runs on Karras levels made elsewhere: ancestral
Euler on the levels of diffusers' EulerDiscreteScheduler; DDIM and PNDM on a training schedule that
has no timesteps but the Karras levels, so that their integer arithmetic visits each of them once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch

from models.samplers import SCHEDULES
from models.schedule import FloatArray
from tests.samplers.toy import SHAPE, Network

CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "plms": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}


@dataclass
class Oracle:
    """A scheduler with its timesteps set, and what the network is told at each of them."""

    scheduler: Any
    told: dict[float, float]

    def walk(
        self,
        network: Network,
        z0: FloatArray,
        initial_noise: FloatArray,
        steps: int,
        strength: float | None,
        mask: FloatArray | None = None,
    ) -> Iterator[FloatArray]:
        """x at the start and after each step, as img2img and inpainting pipelines compute it."""
        scheduler, image, noise = self.scheduler, torch.tensor(z0), torch.tensor(initial_noise)
        timesteps = scheduler.timesteps
        if strength is not None:
            begin = steps - min(int(steps * strength), steps)
            timesteps = timesteps[begin:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(begin)
        if strength is None:
            x = noise * scheduler.init_noise_sigma
        else:
            x = scheduler.add_noise(image, noise, timesteps[:1])
        yield x.numpy()
        for index, timestep in enumerate(timesteps):
            scaled = scheduler.scale_model_input(x, timestep).numpy()
            told = self.told.get(float(timestep), float(timestep))
            x = self._step(torch.tensor(network(scaled, told)), timestep, x, index)
            if mask is not None:
                kept = image
                if index < len(timesteps) - 1:
                    kept = scheduler.add_noise(image, noise, timesteps[index + 1 : index + 2])
                x = (1 - torch.tensor(mask)) * kept + torch.tensor(mask) * x
            yield x.numpy()

    def _step(
        self, output: torch.Tensor, timestep: torch.Tensor, x: torch.Tensor, index: int
    ) -> torch.Tensor:
        if isinstance(self.scheduler, diffusers.EulerAncestralDiscreteScheduler):
            generator = torch.Generator().manual_seed(index)
            return self.scheduler.step(output, timestep, x, generator=generator).prev_sample
        return self.scheduler.step(output, timestep, x).prev_sample


def fresh_noise(index: int) -> FloatArray:
    """The noise that the oracle's step `index` draws."""
    generator = torch.Generator().manual_seed(index)
    drawn: FloatArray = torch.randn(SHAPE, generator=generator, dtype=torch.float64).numpy()
    return drawn


def make_oracle(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    """steps -> an oracle at its start. The scheduler is made once: that is the slow part."""
    chosen = SCHEDULES[schedule]
    options: dict[str, Any] = {"timestep_spacing": chosen.spacing}
    if chosen.karras and sampler in ("ddim", "plms", "euler_ancestral"):
        return _on_karras_levels(sampler, config | options)
    if chosen.karras:
        options["use_karras_sigmas"] = True
    scheduler = CLASSES[sampler].from_config(config, **options)

    def ready(steps: int) -> Oracle:
        scheduler.set_timesteps(steps)
        return Oracle(scheduler, told={})

    return ready


def _on_karras_levels(sampler: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    euler = diffusers.EulerDiscreteScheduler.from_config(config, use_karras_sigmas=True)

    def ancestral(steps: int) -> Oracle:
        euler.set_timesteps(steps)
        scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(config)
        scheduler.set_timesteps(steps)
        scheduler.sigmas, scheduler.timesteps = euler.sigmas, euler.timesteps
        return Oracle(scheduler, told={})

    def counted(steps: int) -> Oracle:
        euler.set_timesteps(steps)
        changed = {
            "num_train_timesteps": steps,
            "steps_offset": 0,
            "timestep_spacing": "leading",
            "set_alpha_to_one": True,
        }
        scheduler = CLASSES[sampler].from_config(config, **changed)
        sigmas = euler.sigmas[:-1].double().flip(0)
        scheduler.alphas_cumprod = 1 / (1 + sigmas**2)
        scheduler.set_timesteps(steps)
        told = dict(enumerate(euler.timesteps.double().flip(0).tolist()))
        return Oracle(scheduler, {float(position): time for position, time in told.items()})

    return ancestral if sampler == "euler_ancestral" else counted


def error(ours: FloatArray, theirs: FloatArray) -> float:
    """Largest difference, relative to the largest value of the reference."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
