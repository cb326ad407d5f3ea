"""Tables for EDM's preconditioning and for flows, against diffusers and k-diffusion.

x is compared after every step. For the solvers in log-SNR, ours is x of variance 1 before the
latents' own deviation: theirs times the signal of its level.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.samplers import SAMPLERS, SCHEDULES, compile_table, fitting_samplers
from models.samplers.edm_schedule import EdmSchedule
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import FloatArray, NoiseLevels, NoiseSchedule
from models.samplers.published_levels import published_levels
from models.samplers.scheduler_config import published_schedule
from models.samplers.schedules.registry import FLOW_SCHEDULES, fitting_schedules
from models.samplers.table import SamplerTable
from tests.models.samplers.k_diffusion_source import sampling
from tests.models.samplers.k_oracle import SAMPLERS as K_SAMPLERS
from tests.models.samplers.k_oracle import STOCHASTIC, UNIT_VARIANCE
from tests.models.samplers.oracle import BrownianNoise, error, fresh_noise
from tests.models.samplers.other_trainings import NETWORK, NOISE, Z0, largest_error
from tests.models.samplers.toy import SD15, unit_noise, walk

TOLERANCE = 1e-5
MASK = (unit_noise(3) > 0).astype(np.float64)

# As published, and with the other curve.
PLAYGROUND: dict[str, Any] = {
    "_class_name": "EDMDPMSolverMultistepScheduler",
    "algorithm_type": "dpmsolver++",
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "sigma_data": 0.5,
    "sigma_max": 80.0,
    "sigma_min": 0.002,
    "solver_order": 2,
    "solver_type": "midpoint",
    "thresholding": False,
}
COSXL: dict[str, Any] = {
    "_class_name": "EDMEulerScheduler",
    "sigma_min": 0.002,
    "sigma_max": 120.0,
    "sigma_data": 1.0,
    "prediction_type": "v_prediction",
    "sigma_schedule": "exponential",
}
EDM = {
    "playground": PLAYGROUND,
    "playground-exponential": PLAYGROUND | {"sigma_schedule": "exponential"},
    "playground-sde": PLAYGROUND | {"algorithm_type": "sde-dpmsolver++"},
    "playground-euler": {"_class_name": "EDMEulerScheduler"},
    "cosxl": COSXL,
    "cosxl-karras": COSXL | {"sigma_schedule": "karras"},
    "cosxl-dpm": COSXL | {"_class_name": "EDMDPMSolverMultistepScheduler"},
}
FLOW_SIGMAS = SD15 | {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOWS: dict[str, dict[str, Any]] = {
    "euler": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    "euler-shift": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    "dpm": {"_class_name": "DPMSolverMultistepScheduler", **FLOW_SIGMAS},
    "dpm-shift": {"_class_name": "DPMSolverMultistepScheduler", "flow_shift": 3.0, **FLOW_SIGMAS},
    "dpm-sde": {
        "_class_name": "DPMSolverMultistepScheduler",
        "algorithm_type": "sde-dpmsolver++",
        **FLOW_SIGMAS,
    },
    "unipc": {"_class_name": "UniPCMultistepScheduler", **FLOW_SIGMAS},
    "unipc-shift": {"_class_name": "UniPCMultistepScheduler", "flow_shift": 5.0, **FLOW_SIGMAS},
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


@pytest.mark.parametrize("name", EDM)
def test_every_step_of_edm_is_that_of_diffusers(name: str) -> None:
    errors = {
        (steps, strength): largest_error(EDM[name], steps, strength)
        for steps in (1, 2, 3, 16)
        for strength in (None, 1.0, 0.6)
        if int(steps * (strength or 1.0)) >= 1
        # diffusers' exponential levels are the cleanest alone with a single step.
        and (steps > 1 or published_schedule(EDM[name]) == "karras")
    }
    assert {case: e for case, e in errors.items() if not e <= 3 * TOLERANCE} == {}


@pytest.mark.parametrize("name", FLOWS)
def test_every_step_of_a_flow_is_that_of_diffusers(name: str) -> None:
    errors = {
        (steps, strength): largest_error(FLOWS[name], steps, strength)
        for steps in (1, 2, 3, 9, 16)
        for strength in (None, 1.0, 0.6)
        if int(steps * (strength or 1.0)) >= 1
    }
    # UniPC begins 1e-6 below pure noise, which has two digits in the float32 of diffusers.
    tolerance = 3 * TOLERANCE if name.startswith("unipc") else TOLERANCE
    assert {case: e for case, e in errors.items() if not e <= tolerance} == {}


@pytest.mark.parametrize("config", [PLAYGROUND, COSXL, FLOWS["euler-shift"], FLOWS["dpm-shift"]])
@pytest.mark.parametrize("strength", [None, 0.7])
def test_known_region_is_that_of_diffusers(config: dict[str, Any], strength: float | None) -> None:
    assert largest_error(config, 10, strength, MASK) <= 3 * TOLERANCE


def k_walk(sampler: str, schedule: EdmSchedule, sigmas: FloatArray) -> Iterator[FloatArray]:
    """Yield x of k-diffusion's sampler before every evaluation and at the end, with its level.

    The network is preconditioned as in Karras et al. 2022, table 1.
    """
    noise, seen, data = BrownianNoise(), [], schedule.sigma_data

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = float(sigma[0])
        seen.append((x.numpy(), level))
        noise.row += 1
        total = level**2 + data**2
        output = torch.tensor(NETWORK(x.numpy() * total**-0.5, np.log(level) / 4))
        return x * data**2 / total + output * level * data * total**-0.5

    options: dict[str, Any] = {"noise_sampler": noise} if sampler in STOCHASTIC else {}
    with torch.random.fork_rng():
        start, levels = torch.tensor(Z0 + sigmas[0] * NOISE), torch.tensor(sigmas)
        last = K_SAMPLERS[sampler](model, start, levels, disable=True, **options)
    for x, sigma in [*seen, (last.numpy(), 0.0)]:
        yield x * (1 + (sigma / data) ** 2) ** -0.5 if sampler in UNIT_VARIANCE else x


@pytest.mark.parametrize("sampler", K_SAMPLERS)
@pytest.mark.parametrize("curve", ["karras", "exponential"])
def test_every_evaluation_of_edm_is_that_of_k_diffusion(sampler: str, curve: str) -> None:
    schedule = EdmSchedule()
    levels = getattr(sampling, f"get_sigmas_{curve}")(9, schedule.sigma_min, schedule.sigma_max)
    sigmas = levels.double().numpy()
    table = compile_table(sampler, curve, 9, schedule, 1.0)
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise))
    theirs = list(k_walk(sampler, schedule, sigmas))
    assert len(ours) == len(theirs)
    assert max(error(a, b) for a, b in zip(ours, theirs, strict=True)) <= 3 * TOLERANCE


@pytest.mark.parametrize("levels", [EdmSchedule(), FlowSchedule(shift=3.0)], ids=["edm", "flow"])
def test_a_perfect_network_gives_the_image(levels: NoiseLevels) -> None:
    """With every sampler and schedule: the network's output is that of z0 and the noise in x."""
    wrong = {}
    for sampler in fitting_samplers(levels):
        for schedule in fitting_schedules(levels):
            table = compile_table(sampler, schedule, 12, levels, 1.0)
            last = _walked_by_a_perfect_network(table, levels)
            if not error(last, Z0) <= 0.02:
                wrong[sampler, schedule] = error(last, Z0)
    assert wrong == {}


def _walked_by_a_perfect_network(table: SamplerTable, levels: NoiseLevels) -> FloatArray:
    """Return x at the end. The share of noise in the network's input follows from the timestep."""

    def network(x: FloatArray, timestep: float) -> FloatArray:
        if isinstance(levels, EdmSchedule):
            sigma, data = np.exp(4 * timestep), levels.sigma_data
            total = (sigma**2 + data**2) ** 0.5
            return (Z0 - data**2 / total * x) * total / (sigma * data)
        share = timestep / levels.num_train_timesteps
        return (x - Z0) / share

    *_, last = walk(table, network, Z0, NOISE, fresh_noise)
    return last


def test_samplers_and_schedules_of_another_training_are_refused() -> None:
    refused = [
        (FlowSchedule(), "ddim", "flow", "sampler is 'ddim', not one of dpmpp_2m"),
        (FlowSchedule(), "euler", "karras", "schedule is 'karras', not one of flow"),
        (EdmSchedule(), "lcm", "karras", "sampler is 'lcm'"),
        (EdmSchedule(), "euler", "align-your-steps-xl", "schedule is 'align-your-steps-xl'"),
        (NoiseSchedule(), "euler", "flow", "schedule is 'flow', not one of leading"),
    ]
    for levels, sampler, schedule, message in refused:
        with pytest.raises(ValueError, match=message):
            compile_table(sampler, schedule, 4, levels)
    assert fitting_samplers(NoiseSchedule()) == SAMPLERS
    assert fitting_schedules(NoiseSchedule()) == SCHEDULES
    assert not SCHEDULES.keys() & FLOW_SCHEDULES.keys()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PLAYGROUND | {"prediction_type": "sample"}, "prediction_type is 'sample'"),
        (PLAYGROUND | {"rho": 5.0}, "rho = 5.0"),
        (PLAYGROUND | {"solver_order": 3}, "solver_order = 3"),
        (PLAYGROUND | {"solver_type": "heun"}, "solver_type = 'heun'"),
        (PLAYGROUND | {"final_sigmas_type": "sigma_min"}, "final_sigmas_type = 'sigma_min'"),
        (PLAYGROUND | {"sigma_data": 0.0}, "sigma_data is 0.0"),
        (PLAYGROUND | {"sigma_max": float("nan")}, "sigma_max is nan"),
        (PLAYGROUND | {"sigma_max": "80"}, "sigma_max is '80'"),
        (PLAYGROUND | {"sigma_min": 90.0}, "sigma_min is 90.0, not below sigma_max 80.0"),
        (PLAYGROUND | {"num_train_timesteps": 0}, "num_train_timesteps is 0"),
        (COSXL | {"sigma_schedule": "linear"}, "sigma_schedule = 'linear'"),
        (FLOWS["euler"] | {"use_dynamic_shifting": True}, "use_dynamic_shifting = True"),
        (FLOWS["euler"] | {"use_karras_sigmas": True}, "use_karras_sigmas = True"),
        (FLOWS["euler"] | {"stochastic_sampling": True}, "stochastic_sampling = True"),
        (FLOWS["euler"] | {"invert_sigmas": True}, "invert_sigmas = True"),
        (FLOWS["euler"] | {"shift": 0}, "shift is 0, not 0.01 to 100"),
        (FLOWS["dpm"] | {"prediction_type": "epsilon"}, "use_flow_sigmas = True with prediction"),
        (FLOWS["dpm"] | {"use_flow_sigmas": False}, "prediction_type is 'flow_prediction'"),
        (FLOWS["dpm"] | {"use_karras_sigmas": True}, "use_flow_sigmas and use_karras_sigmas"),
        (FLOWS["unipc"] | {"shift_terminal": 0.1}, "shift_terminal = 0.1"),
        ({"_class_name": "DEISMultistepScheduler", **FLOW_SIGMAS}, "use_flow_sigmas = True"),
        ({"_class_name": "EulerDiscreteScheduler", **FLOW_SIGMAS}, "use_flow_sigmas = True"),
    ],
)
def test_what_is_computed_differently_is_refused_by_name(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        published_levels(config)


def test_levels_of_betas_are_not_read_from_another_training() -> None:
    for config in (PLAYGROUND, FLOWS["euler"], FLOWS["dpm"]):
        with pytest.raises(ValueError, match="has no betas"):
            NoiseSchedule.from_config(config)


def test_levels_are_their_configuration() -> None:
    assert published_levels(PLAYGROUND) == EdmSchedule(sigma_max=80.0)
    assert hash(published_levels(COSXL)) == hash(published_levels(dict(COSXL)))
    assert published_levels(FLOWS["euler-shift"]) == FlowSchedule(shift=3.0)
    assert published_levels(FLOWS["dpm-shift"]) == FlowSchedule(shift=3.0)
