"""The sampler and schedule that a published scheduler configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.samplers.scheduler_config import published_schedule
from protocol.request.samplers import SAMPLERS

# By scheduler class of diffusers. The parallel classes compute the same steps for several images;
# others take the same steps between noise levels of another training.
_SAMPLERS = {info.scheduler: name for name, info in SAMPLERS.items() if info.scheduler}
_OTHER_CLASSES = {
    "DDIMParallelScheduler": "ddim",
    "DDPMParallelScheduler": "ddpm",
    "EDMDPMSolverMultistepScheduler": "dpmpp_2m",
    "EDMEulerScheduler": "euler",
    "FlowMatchEulerDiscreteScheduler": "euler",
}
_UNNAMED = "dpmpp_2m"  # for a configuration without a class


def published_sampler(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return (sampler, schedule) of a `scheduler_config.json`.

    Raises ValueError for a scheduler class that is not supported.
    """
    schedule = published_schedule(config)
    name = str(config.get("_class_name"))
    sampler = _SAMPLERS.get(name) or _OTHER_CLASSES.get(name) or _UNNAMED
    if sampler == "dpmpp_2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        sampler = "dpmpp_2m_sde"
    return sampler, schedule
