"""Translation of a published scheduler configuration into a sampler and a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.samplers.scheduler_config import published_schedule

# By scheduler class of diffusers.
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
# The same steps, computed for several images at once.
_SAME = {"DDIMParallelScheduler": "ddim", "DDPMParallelScheduler": "ddpm"}
_NEAREST = "dpmpp_2m"  # of a configuration without a class


def published_sampler(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return sampler and schedule for the content of a `scheduler_config.json`.

    Raises ValueError for a scheduler class that is not supported.
    """
    name = str(config.get("_class_name"))
    sampler = _SAMPLERS.get(name) or _SAME.get(name) or _NEAREST
    if sampler == "dpmpp_2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        sampler = "dpmpp_2m_sde"
    return sampler, published_schedule(config)
