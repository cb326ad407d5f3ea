"""Noise levels by name, from where they are published, without `models.samplers`.

`levels(schedule, steps, config)` gives (sigmas (steps,), the network's timesteps at them).
"""

import json
from functools import cache
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import AysSchedules

from models.samplers.noise_schedule import FloatArray
from tests.models.samplers.k_diffusion_source import external, sampling

# Curves: diffusers' option, and the spacing whose ends they have.
CURVES = {
    "karras": ("use_karras_sigmas", "linspace"),
    "karras-leading": ("use_karras_sigmas", "leading"),
    "karras-trailing": ("use_karras_sigmas", "trailing"),
    "exponential": ("use_exponential_sigmas", "linspace"),
    "polyexponential": ("use_exponential_sigmas", "linspace"),
    "beta": ("use_beta_sigmas", "linspace"),
}
SPACINGS = ("leading", "linspace", "trailing")
GRIDS = (
    "normal",
    "simple",
    "sgm_uniform",
    "ddim",
    "lcm",
    "align-your-steps",
    "align-your-steps-xl",
)
# The noisy end of each grid; below it x starts with the variance of signal and noise together.
STARTS_LOWER = ("leading", "karras-leading", "ddim")


def trained(config: dict[str, Any]) -> Any:
    """Return k-diffusion's view of a model: levels and timesteps, each from the other."""
    return _trained(json.dumps(config))


@cache
def _trained(config: str) -> Any:
    sigmas = diffusers.EulerDiscreteScheduler.from_config(json.loads(config)).sigmas[:-1].flip(0)
    return external.DiscreteSchedule(sigmas.double(), quantize=False)


def timesteps_at(sigmas: FloatArray, config: dict[str, Any]) -> FloatArray:
    """Return the timesteps of noise levels, as k-diffusion computes them."""
    times: FloatArray = trained(config).sigma_to_t(torch.tensor(sigmas)).numpy()
    return times


def levels(schedule: str, steps: int, config: dict[str, Any]) -> FloatArray:
    """Return (steps,) sigmas of samplers in sigma space, for schedules chosen in sigmas."""
    if schedule in CURVES:
        option, spacing = CURVES[schedule]
        euler = diffusers.EulerDiscreteScheduler.from_config(
            config, timestep_spacing=spacing, **{option: True}
        )
        euler.set_timesteps(steps)
        found: FloatArray = euler.sigmas[:-1].double().numpy()
        return found
    return _grid(schedule, steps, config)


def _grid(schedule: str, steps: int, config: dict[str, Any]) -> FloatArray:
    known = trained(config)
    match schedule:
        case "normal":
            return _array(known.get_sigmas(steps)[:-1])
        case "sgm_uniform":
            return _array(known.t_to_sigma(torch.linspace(999, 0, steps + 1))[:-1])
        case "simple":
            return np.array(
                [float(known.sigmas[999 - int(i * 1000 / steps)]) for i in range(steps)]
            )
        case "ddim":
            timesteps = np.arange(0, 1000, 1000 // steps)[:steps][::-1] + 1
            return _array(known.sigmas[np.minimum(timesteps, 999).copy()])
        case "lcm":
            scheduler = diffusers.LCMScheduler.from_config(config)
            scheduler.set_timesteps(steps)
            return _array(known.sigmas[scheduler.timesteps])
        case "align-your-steps":
            return _aligned("StableDiffusionSigmas", steps, known)
        case "align-your-steps-xl":
            return _aligned("StableDiffusionXLSigmas", steps, known)
    raise ValueError(schedule)


def _aligned(name: str, steps: int, known: Any) -> FloatArray:
    """Return ten levels from diffusers, interpolated up to the last 0.029 as NVIDIA's page says."""
    published = [*AysSchedules[name][:-1], 0.029]
    ticks = np.linspace(0, 1, len(published))
    places = np.linspace(0, 1, steps + 1)
    sigmas: FloatArray = np.exp(np.interp(places, ticks, np.log(published)))[:-1]
    return np.minimum(sigmas, float(known.sigma_max))


def polyexponential(steps: int, sigma_min: float, sigma_max: float) -> FloatArray:
    return _array(sampling.get_sigmas_polyexponential(steps, sigma_min, sigma_max)[:-1])


def _array(sigmas: torch.Tensor) -> FloatArray:
    array: FloatArray = sigmas.double().numpy()
    return array
