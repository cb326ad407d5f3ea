"""diffusers' schedulers for EDM and for flows, stepped as its pipelines step them.

For the solver in log-SNR of EDM, ours is x of variance 1 before the latents' own deviation: theirs
times the signal of its level.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import diffusers
import torch

from models.samplers import compile_table
from models.samplers.noise_schedule import FloatArray
from models.samplers.published_levels import published_levels
from models.samplers.table import SamplerTable
from tests.models.samplers.oracle import error, fresh_noise
from tests.models.samplers.toy import toy_network, unit_noise, walk
from worker.model_info.published_sampler import published_sampler

NETWORK, Z0, NOISE = toy_network(), unit_noise(1), unit_noise(2)


def table_of(config: dict[str, Any], steps: int, strength: float | None) -> SamplerTable:
    sampler, schedule = published_sampler(config)
    return compile_table(sampler, schedule, steps, published_levels(config), strength)


def diffusers_walk(
    config: dict[str, Any], steps: int, strength: float | None, mask: FloatArray | None = None
) -> Iterator[tuple[FloatArray, float]]:
    """Yield x at the start and after each step, with the level reached, as pipelines do."""
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    scheduler.set_timesteps(steps)
    begin = 0 if strength is None else steps - int(steps * strength)
    scheduler.set_begin_index(begin)
    timesteps, sigmas = scheduler.timesteps[begin:], scheduler.sigmas[begin:].double().tolist()
    image, noise = torch.tensor(Z0), torch.tensor(NOISE)
    add = getattr(scheduler, "add_noise", None) or scheduler.scale_noise
    if strength is None:
        x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        x = add(image, *_in_order(scheduler, noise, timesteps[:1]))
    yield x.numpy(), sigmas[0]
    for index, timestep in enumerate(timesteps):
        scaled = x
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(x, timestep)
        output = torch.tensor(NETWORK(scaled.numpy(), float(timestep)))
        given: dict[str, Any] = {}
        if config.get("algorithm_type") == "sde-dpmsolver++":
            given["generator"] = torch.Generator().manual_seed(index)
            if "EDM" not in config["_class_name"]:
                given = {"variance_noise": torch.tensor(fresh_noise(index))}
        x = scheduler.step(output, timestep, x, **given).prev_sample
        if mask is not None:
            kept = image
            if index < len(timesteps) - 1:
                following = _in_order(scheduler, noise, timesteps[index + 1 : index + 2])
                kept = add(image, *following)
            x = (1 - torch.tensor(mask)) * kept + torch.tensor(mask) * x
        yield x.numpy(), sigmas[index + 1]


def _in_order(scheduler: Any, noise: torch.Tensor, timestep: torch.Tensor) -> tuple[Any, Any]:
    """Return the arguments after the image, in which the schedulers of flows differ."""
    return (noise, timestep) if hasattr(scheduler, "add_noise") else (timestep, noise)


def largest_error(
    config: dict[str, Any], steps: int, strength: float | None, mask: FloatArray | None = None
) -> float:
    table = table_of(config, steps, strength)
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise, mask))
    theirs = list(diffusers_walk(config, steps, strength, mask))
    assert len(ours) == len(theirs)
    data = config.get("sigma_data", 0.5)
    unit = config["_class_name"].startswith("EDMDPM")
    return max(
        error(mine, x * ((1 + (sigma / data) ** 2) ** -0.5 if unit else 1.0))
        for mine, (x, sigma) in zip(ours, theirs, strict=True)
    )
