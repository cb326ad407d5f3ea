"""Translation of a published scheduler configuration into a sampler and a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By scheduler class of diffusers. Other classes get the nearest sampler that exists here.
_SAMPLERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DEISMultistepScheduler": "deis",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverSDEScheduler": "dpmpp_sde",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "KDPM2AncestralDiscreteScheduler": "dpm2_ancestral",
    "KDPM2DiscreteScheduler": "dpm2",
    "LCMScheduler": "lcm",
    "LMSDiscreteScheduler": "lms",
    "PNDMScheduler": "plms",
    "TCDScheduler": "tcd",
    "UniPCMultistepScheduler": "unipc",
}
_NEAREST = "dpmpp_2m"
_CURVES = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}


def published_sampler(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return sampler and schedule for the content of a `scheduler_config.json`."""
    sampler = _SAMPLERS.get(str(config.get("_class_name")), _NEAREST)
    if sampler == "dpmpp_2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        sampler = "dpmpp_2m_sde"
    if sampler in ("lcm", "tcd"):  # their timesteps are fixed, so the file's spacing is ignored
        return sampler, "lcm"
    curve = next((name for key, name in _CURVES.items() if config.get(key)), None)
    return sampler, curve or str(config.get("timestep_spacing", "leading"))
