"""The sampler and schedule that a published scheduler configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol.request.samplers import SAMPLERS

# By scheduler class of diffusers. Classes that are missing get the nearest sampler.
_SAMPLERS = {info.scheduler: name for name, info in SAMPLERS.items() if info.scheduler}
_NEAREST = "dpmpp_2m"
_CURVES = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}


def published_sampler(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return (sampler, schedule) of a `scheduler_config.json`."""
    sampler = _SAMPLERS.get(str(config.get("_class_name")), _NEAREST)
    if sampler == "dpmpp_2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        sampler = "dpmpp_2m_sde"
    if sampler in ("lcm", "tcd"):  # they have timesteps of their own, not the spacing of the file
        return sampler, "lcm"
    curve = next((name for key, name in _CURVES.items() if config.get(key)), None)
    return sampler, curve or str(config.get("timestep_spacing", "leading"))
