"""k-diffusion's samplers, as functions of their levels and a network.

x is recorded at every evaluation of the network, and at the end. Noise is injected.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from models.samplers.noise_schedule import FloatArray
from tests.models.samplers import references
from tests.models.samplers.k_diffusion_source import sampling
from tests.models.samplers.oracle import BrownianNoise
from tests.models.samplers.toy import Network

SAMPLERS = {
    "euler": sampling.sample_euler,
    "euler_ancestral": sampling.sample_euler_ancestral,
    "heun": sampling.sample_heun,
    "dpm2": sampling.sample_dpm_2,
    "dpm2_ancestral": sampling.sample_dpm_2_ancestral,
    "lms": sampling.sample_lms,
    "dpmpp_2m": sampling.sample_dpmpp_2m,
    "dpmpp_2s_ancestral": sampling.sample_dpmpp_2s_ancestral,
    "dpmpp_sde": sampling.sample_dpmpp_sde,
    "dpmpp_2m_sde": sampling.sample_dpmpp_2m_sde,
    "dpmpp_3m_sde": sampling.sample_dpmpp_3m_sde,
}
STOCHASTIC = tuple(name for name in SAMPLERS if name.endswith(("_ancestral", "_sde")))
# Ours step x of variance 1 with these: theirs times the signal of its level.
UNIT_VARIANCE = ("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde")

# (x, sigma) -> x with the known region at that level.
Known = Callable[[FloatArray, float], FloatArray]


def k_walk(
    sampler: str,
    network: Network,
    x: FloatArray,
    sigmas: FloatArray,
    config: dict[str, Any],
    known: Known | None = None,
) -> Iterator[FloatArray]:
    """Return x before every evaluation and at the end; it begins as z0 + sigma * noise.

    `sigmas` ends in 0. `known` replaces the known region after each step, for samplers with one
    evaluation a step.
    """
    noise = BrownianNoise()
    seen: list[tuple[FloatArray, float]] = []

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = float(sigma[0])
        if known is not None:
            x.copy_(torch.tensor(known(x.numpy(), level)))  # the sampler goes on with this one
        seen.append((x.numpy(), level))
        noise.row += 1
        scale = (level**2 + 1) ** -0.5
        [timestep] = references.timesteps_at(np.array([level]), config)
        output = torch.tensor(network(x.numpy() * scale, float(timestep)))
        match config.get("prediction_type", "epsilon"):
            case "epsilon":
                return x - level * output
            case "v_prediction":
                return x * scale**2 - level * scale * output
        return output

    options: dict[str, Any] = {"noise_sampler": noise} if sampler in STOCHASTIC else {}
    with torch.random.fork_rng():  # the deterministic ones take noise too, and multiply it by 0
        start, levels = torch.tensor(x), torch.tensor(sigmas)
        last = SAMPLERS[sampler](model, start, levels, disable=True, **options)
    unit = sampler in UNIT_VARIANCE
    end = last.numpy() if known is None else known(last.numpy(), 0.0)
    for x_seen, sigma in [*seen, (end, 0.0)]:
        yield x_seen * (sigma**2 + 1) ** -0.5 if unit else x_seen
