"""diffusers' schedulers, stepped as its pipelines step them.

Where a scheduler cannot choose certain noise levels, its own step runs on levels computed elsewhere
(`references.py`). Schedulers with their own curve get another one; DDIM and PNDM run on a training
schedule whose timesteps are the levels, so that their integer arithmetic visits each of them once;
DDPM, LCM and TCD get a table that interpolates between the trained levels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch

from models.samplers.noise_schedule import FloatArray
from tests.models.samplers import references
from tests.models.samplers.toy import SHAPE, Network

CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "plms": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpm2": diffusers.KDPM2DiscreteScheduler,
    "dpm2_ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "dpmpp_sde": diffusers.DPMSolverSDEScheduler,
    "dpmpp_2m_sde": diffusers.DPMSolverMultistepScheduler,
    "deis": diffusers.DEISMultistepScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
}
OPTIONS: dict[str, dict[str, Any]] = {"dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"}}
STOCHASTIC = ("euler_ancestral", "dpm2_ancestral", "dpmpp_2m_sde", "ddpm", "lcm", "tcd")
MULTISTEP = ("dpmpp_2m", "unipc", "dpmpp_2m_sde", "deis")
LISTED = ("ddpm", "lcm", "tcd")


def fresh_noise(row: int) -> FloatArray:
    """Return the noise of evaluation `row`."""
    generator = torch.Generator().manual_seed(row)
    noise: FloatArray = torch.randn(SHAPE, generator=generator, dtype=torch.float64).numpy()
    return noise


@dataclass
class BrownianNoise:
    """A Brownian path in sigma; an increment may begin where the last one did."""

    row: int = -1
    last: tuple[float, float, FloatArray] | None = None

    def __call__(self, sigma: Any, sigma_next: Any) -> torch.Tensor:
        start, end, noise = float(sigma), float(sigma_next), fresh_noise(self.row)
        if self.last and self.last[0] == start:
            shared = ((start - self.last[1]) / (start - end)) ** 0.5
            noise = shared * self.last[2] + (1 - shared**2) ** 0.5 * noise
        self.last = (start, end, noise)
        return torch.tensor(noise)


@dataclass
class Oracle:
    """A scheduler with its timesteps set.

    network_timesteps: the timesteps that the network gets, if not those of the scheduler.
    """

    scheduler: Any
    sampler: str
    network_timesteps: FloatArray | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def walk(
        self,
        network: Network,
        z0: FloatArray,
        initial_noise: FloatArray,
        steps: int,
        strength: float | None,
        mask: FloatArray | None = None,
    ) -> Iterator[FloatArray]:
        """Return x at the start and after each step, as img2img and inpainting pipelines compute
        it.
        """
        scheduler, image, noise = self.scheduler, torch.tensor(z0), torch.tensor(initial_noise)
        timesteps, network_timesteps = scheduler.timesteps, self.network_timesteps
        begin = 0
        if strength is not None:
            begin = (steps - min(int(steps * strength), steps)) * scheduler.order
            timesteps = timesteps[begin:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(begin)
        if strength is None:
            x = noise * scheduler.init_noise_sigma
        else:
            x = scheduler.add_noise(image, noise, timesteps[:1])
        path = BrownianNoise()
        if self.sampler == "dpmpp_sde":
            scheduler.noise_sampler = path
        yield x.numpy()
        for index, timestep in enumerate(timesteps):
            scaled = scheduler.scale_model_input(x, timestep).numpy()
            now = (
                float(timestep)
                if network_timesteps is None
                else float(network_timesteps[begin + index])
            )
            path.row = index
            x = self._step(torch.tensor(network(scaled, now)), timestep, x, index)
            if mask is not None:
                kept = image
                if index < len(timesteps) - 1:
                    kept = scheduler.add_noise(image, noise, timesteps[index + 1 : index + 2])
                x = (1 - torch.tensor(mask)) * kept + torch.tensor(mask) * x
            yield x.numpy()

    def _step(
        self, output: torch.Tensor, timestep: torch.Tensor, x: torch.Tensor, index: int
    ) -> torch.Tensor:
        arguments = dict(self.arguments)
        if self.sampler == "dpmpp_2m_sde":  # its own noise would be float32
            arguments["variance_noise"] = torch.tensor(fresh_noise(index))
        elif self.sampler in STOCHASTIC or arguments:
            arguments["generator"] = torch.Generator().manual_seed(index)
        return self.scheduler.step(output, timestep, x, **arguments).prev_sample


def make_oracle(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    """Return a function from steps to an oracle at its start.

    The scheduler is made once, because that is slow.
    """
    config = config | OPTIONS.get(sampler, {})
    if schedule in references.SPACINGS:
        return _on_spacing(sampler, config | {"timestep_spacing": schedule})
    lower = schedule in references.STARTS_LOWER
    config = config | {"timestep_spacing": "leading" if lower else "linspace"}
    if sampler in ("ddim", "plms"):
        return _counted(sampler, schedule, config)
    if sampler in LISTED:
        return _looked_up(sampler, schedule, config)
    if sampler == "euler_ancestral":
        return _given(sampler, schedule, config)
    return _curved(sampler, schedule, config)


def _on_spacing(sampler: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    scheduler = CLASSES[sampler].from_config(config)
    spaced = diffusers.DDPMScheduler.from_config(config)

    def ready(steps: int) -> Oracle:
        scheduler.set_timesteps(min(steps, 50) if sampler in ("lcm", "tcd") else steps)
        if sampler in ("lcm", "tcd"):  # they have timesteps of their own: see "lcm"
            spaced.set_timesteps(steps)
            scheduler.timesteps, scheduler.num_inference_steps = spaced.timesteps, steps
        return Oracle(scheduler, sampler)

    return ready


def _curved(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    """Replace the scheduler's own exponential curve by the levels.

    The multistep solvers let curves span all trained levels and round timesteps: for Karras's
    levels diffusers does that too; for others it truncates the fractions.
    """
    own = schedule in references.CURVES and sampler in MULTISTEP
    option = references.CURVES[schedule][0] if own else "use_exponential_sigmas"
    scheduler = CLASSES[sampler].from_config(config, **{option: True})
    chosen = None

    def curve(in_sigmas: object, num_inference_steps: int | None = None) -> FloatArray:
        assert chosen is not None
        return chosen

    if not own:
        scheduler._convert_to_exponential = curve

    def ready(steps: int) -> Oracle:
        nonlocal chosen
        chosen = references.levels(schedule, steps, config)
        scheduler.set_timesteps(steps)
        if sampler not in MULTISTEP:
            return Oracle(scheduler, sampler)
        if sampler == "deis":  # it ends there, except for the last level of a curve
            scheduler.sigmas[-1] = references.trained(config).sigma_min
        sigmas = scheduler.sigmas.double().numpy()[:steps]
        network_timesteps = references.timesteps_at(sigmas, config)
        return Oracle(scheduler, sampler, network_timesteps.round() if own else network_timesteps)

    return ready


def _given(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    scheduler = CLASSES[sampler].from_config(config)

    def ready(steps: int) -> Oracle:
        sigmas = references.levels(schedule, steps, config)
        scheduler.set_timesteps(steps)
        scheduler.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)
        scheduler.timesteps = torch.tensor(references.timesteps_at(sigmas, config))
        return Oracle(scheduler, sampler)

    return ready


def _counted(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    def ready(steps: int) -> Oracle:
        sigmas = references.levels(schedule, steps, config)
        changed = {
            "num_train_timesteps": steps,
            "steps_offset": 0,
            "timestep_spacing": "leading",
            "set_alpha_to_one": True,
        }
        scheduler = CLASSES[sampler].from_config(config | changed)
        scheduler.alphas_cumprod = 1 / (1 + torch.tensor(sigmas).flip(0) ** 2)
        scheduler.set_timesteps(steps)
        times = references.timesteps_at(sigmas, config)
        return Oracle(scheduler, sampler, times[steps - 1 - scheduler.timesteps.numpy()])

    return ready


class Between:
    """A table of alphas_cumprod at timesteps between the trained ones."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._trained = references.trained(config)

    def __getitem__(self, timestep: torch.Tensor) -> torch.Tensor:
        log_sigmas = self._trained.log_sigmas.numpy()
        sigma = np.exp(np.interp(timestep.numpy(), np.arange(len(log_sigmas)), log_sigmas))
        return torch.as_tensor(1 / (1 + sigma**2))

    def to(self, *args: object, **kwargs: object) -> "Between":
        return self


def _looked_up(sampler: str, schedule: str, config: dict[str, Any]) -> Callable[[int], Oracle]:
    scheduler = CLASSES[sampler].from_config(config)

    def ready(steps: int) -> Oracle:
        scheduler.set_timesteps(steps)
        if (sampler, schedule) not in (("lcm", "lcm"), ("tcd", "lcm")):
            sigmas = references.levels(schedule, steps, config)
            scheduler.alphas_cumprod = Between(config)
            scheduler.timesteps = torch.tensor(references.timesteps_at(sigmas, config))
        return Oracle(scheduler, sampler)

    return ready


def error(ours: FloatArray, theirs: FloatArray) -> float:
    """Return the largest difference, relative to the largest value of the reference."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
