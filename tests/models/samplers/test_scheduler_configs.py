"""Every scheduler class and field of diffusers: computed as it does, or refused by name."""

from __future__ import annotations

import inspect
import json
from math import inf
from typing import Any

import diffusers
import numpy as np
import pytest

from models.samplers import compile_table
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.published_levels import published_levels
from models.samplers.scheduler_config import FIELDS, SCHEDULER_CLASSES, published_schedule
from tests.models.samplers.oracle import Oracle, error, fresh_noise
from tests.models.samplers.other_trainings import largest_error
from tests.models.samplers.toy import CONFIGS, SD15, toy_network, unit_noise, walk
from tests.support.shared_files import SHARED, shared_file
from worker.model_info.published_sampler import published_sampler

CLASSES: dict[str, Any] = {
    name: found
    for name in dir(diffusers)
    if name.endswith("Scheduler")
    and isinstance(found := getattr(diffusers, name), type)
    and issubclass(found, diffusers.SchedulerMixin)
}
STEPS = 7
NOTHING: dict[str, Any] = {}
TOLERANCE = 5e-5
# diffusers computes in float32, in which these noise levels of up to 20,000 have few digits.
ROUGH = {"beta_schedule": "squaredcos_cap_v2"}
ROUGH_TOLERANCE = 2e-2
NETWORK, Z0, NOISE = toy_network(), unit_noise(1), unit_noise(2)

# Values for each field; others get True and False.
VALUES: dict[str, list[Any]] = {
    "algorithm_type": ["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis"],
    "beta_end": [0.02],
    "beta_schedule": ["linear", "squaredcos_cap_v2", "sigmoid", "exp", "laplace"],
    "beta_start": [0.0005],
    "disable_corrector": [[], [0, 1]],
    "dynamic_thresholding_ratio": [0.5],
    "final_sigmas_type": ["zero", "sigma_min"],
    "flow_shift": [3.0],
    "interpolation_type": ["linear", "log_linear"],
    "lambda_min_clipped": [-inf, -5.1, -1.0],
    "noise_sampler_seed": [None, 3],
    "num_train_timesteps": [400, 0, "1000"],
    "original_inference_steps": [50, 100],
    "prediction_type": ["epsilon", "v_prediction", "sample", "flow_prediction"],
    "sample_max_value": [2.0],
    "shift": [3.0],
    "shift_terminal": [None, 0.1],
    "sigma_data": [1.0],
    "sigma_max": [None, 10.0],
    "sigma_min": [None, 0.05],
    "snr_shift_scale": [3.0],
    "solver_order": [1, 2, 3],
    "solver_p": [None],
    "solver_type": ["midpoint", "heun", "logrho", "bh1", "bh2"],
    "steps_offset": [0, 1, 3, None],
    "time_shift_type": ["exponential", "linear"],
    "timestep_scaling": [10.0, 5.0],
    "timestep_spacing": ["leading", "linspace", "trailing", "even", None],
    "timestep_type": ["discrete", "continuous"],
    "trained_betas": [np.linspace(0.001, 0.02, 1000).tolist(), [0.1, 0.2], [0.0] * 1000],
    "variance_type": [
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned",
        "learned_range",
        None,
    ],
}
# In diffusers a case takes so long, and their base classes have the same fields.
SLOW = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")
# Fields of other classes, which diffusers ignores, except where their value is refused.
FOREIGN = {
    "shift",
    "sigma_data",
    "snr_shift_scale",
    "skip_prk_steps",
    "set_alpha_to_one",
    "clip_sample",
    "interpolation_type",
    "use_karras_sigmas",
    "sigma_min",
    "rescale_betas_zero_snr",
    "use_flow_sigmas",
    "final_sigmas_type",
    "solver_order",
}
# Both change a result only together with the first of these.
TOGETHER: dict[str, dict[str, Any]] = {
    "sigma_max": {"use_karras_sigmas": True},
    "sigma_min": {"use_karras_sigmas": True},
    "timestep_spacing": {"use_karras_sigmas": True},
    "beta_schedule": {"use_karras_sigmas": True},
    "rescale_betas_zero_snr": {"prediction_type": "v_prediction"},
    "timestep_type": {"prediction_type": "v_prediction"},
}

# diffusers passes torch tensors to np.array, and deprecates some of its own values.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def fields_of(name: str) -> set[str]:
    return set(inspect.signature(CLASSES[name].__init__).parameters) - {"self", "args", "kwargs"}


def refusal(config: dict[str, Any]) -> str | None:
    """Return the message with which a configuration is refused, or None."""
    try:
        published_levels(config)
        published_sampler(config)
    except ValueError as refused:
        return str(refused)
    return None


def difference(config: dict[str, Any]) -> float:
    """Return the largest difference to diffusers in timesteps, noise levels and steps."""
    noise_schedule = published_levels(config)
    if not isinstance(noise_schedule, NoiseSchedule):
        return largest_error(config, STEPS, None)
    sampler, schedule = published_sampler(config)
    scheduler = CLASSES[config["_class_name"]].from_config(config)
    alphas = scheduler.alphas_cumprod.double().numpy()
    levels = float(np.abs(alphas - noise_schedule.alphas_cumprod).max())
    scheduler.set_timesteps(STEPS)
    theirs = list(Oracle(scheduler, sampler).walk(NETWORK, Z0, NOISE, STEPS, None))
    table = compile_table(sampler, schedule, STEPS, noise_schedule)
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise))
    assert len(ours) == len(theirs)
    timesteps = np.abs(table.timestep - scheduler.timesteps.double().numpy()).max()
    steps = max(error(x, reference) for x, reference in zip(ours, theirs, strict=True))
    return max(levels, float(timesteps) / 1000, steps)


def base(name: str) -> dict[str, Any]:
    """Return a supported configuration of a class, with the fields that need a value."""
    return {"_class_name": name, **SD15}


def test_every_field_of_diffusers_is_known() -> None:
    known = set().union(*map(fields_of, CLASSES))
    computed = {"beta_start", "beta_end", "beta_schedule", "trained_betas", "num_train_timesteps"}
    computed |= {"prediction_type", "rescale_betas_zero_snr", "steps_offset", "set_alpha_to_one"}
    assert known - computed - {"timestep_spacing"} == FIELDS


@pytest.mark.parametrize("name", CLASSES)
def test_class_is_computed_as_diffusers_does_or_refused(name: str) -> None:
    """With its defaults alone, and with the fields of published configurations."""
    for fields in (NOTHING, *CONFIGS.values()):
        config = {"_class_name": name, **fields}
        message = refusal(config)
        if message is None:
            if fields is CONFIGS["x0"] and not _predicts_x0(name):
                continue
            assert difference(config) < TOLERANCE
        elif name in SCHEDULER_CLASSES:
            if fields is CONFIGS["x0"] and name.startswith("EDM"):
                assert "prediction_type is 'sample'" in message
                continue
            assert message.startswith(f"{name}: ")
            assert fields == {}
        else:
            assert f"scheduler class {name!r} is not supported" in message


def _predicts_x0(name: str) -> bool:
    """Return False for classes that raise an error for it, or do not convert it."""
    ancestral = name.startswith(("EulerAncestral", "KDPM2"))
    return not ancestral and name not in ("PNDMScheduler", "DPMSolverSDEScheduler")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in SLOW else ())
        for name in SCHEDULER_CLASSES
    ],
)
def test_field_is_computed_as_diffusers_does_or_refused(name: str) -> None:
    wrong: dict[str, object] = {}
    foreign = {"sigma_min"} if name.startswith("KDPM2") else FOREIGN  # which take seconds each
    for field in sorted(fields_of(name) | foreign):
        for value in VALUES.get(field, [True, False]):
            for more in (NOTHING, TOGETHER.get(field)):
                if more is None:
                    continue
                config = base(name) | more | {field: value}
                if found := _fault(name, field, config):
                    wrong[f"{field}={str(value)[:20]} {more or ''}"] = found
    assert wrong == {}


def _fault(name: str, field: str, config: dict[str, Any]) -> object:
    message = refusal(config)
    if message is not None:
        named = field in message or any(more in message for more in TOGETHER.get(field, ()))
        return None if named else message
    if config.get("prediction_type") == "sample" and not _predicts_x0(name):
        return None
    rough = config["beta_schedule"] == ROUGH["beta_schedule"]
    if rough and name.startswith("KDPM2A"):
        return None  # where diffusers divides by 0
    found = difference(config)
    return found if not found <= (ROUGH_TOLERANCE if rough else TOLERANCE) else None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "FlowMatchHeunDiscreteScheduler", "shift": 3.0}, "FlowMatchHeun"),
        ({"_class_name": "CogVideoXDPMScheduler"}, "CogVideoXDPMScheduler"),
        ({"_class_name": "SomethingNewScheduler"}, "SomethingNewScheduler"),
        ({"_class_name": ["DDIMScheduler"]}, "DDIMScheduler"),
        ({"_class_name": "DDIMScheduler"}, "clip_sample = True"),
        ({"_class_name": "PNDMScheduler"}, "skip_prk_steps = False"),
        ({"_class_name": "EulerDiscreteScheduler", "warp": 0.5}, "warp = 0.5"),
        ({"_class_name": "EulerDiscreteScheduler", "predict_epsilon": False}, "predict_epsilon"),
        ({"_class_name": "EulerDiscreteScheduler", "timesteps": 400}, "timesteps = 400"),
        (
            {
                "_class_name": "EulerDiscreteScheduler",
                "use_karras_sigmas": True,
                "use_beta_sigmas": True,
            },
            "use_karras_sigmas and use_beta_sigmas",
        ),
        ({"_class_name": "PNDMScheduler", **SD15, "rescale_betas_zero_snr": True}, "rescale_betas"),
        ({"trained_betas": [None] * 1000}, "trained_betas"),
        ({"beta_schedule": ["linear"]}, "beta_schedule"),
        ({"beta_start": "0.1"}, "beta_start"),
    ],
)
def test_unsupported_values_are_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_config(config)


@pytest.mark.parametrize(
    "fields",
    [
        {"warp": None},
        {"tensor_format": "pt", "timestep_values": None, "timesteps": 1000},
        {"_diffusers_version": "0.99", "_anything": 3},
        {"_use_default_values": ["beta_start"], "beta_start": 0.5},
        {"sample_max_value": 1.0, "clip_sample_range": 2.0, "rho": 5.0},
    ],
)
def test_fields_without_effect_are_accepted(fields: dict[str, Any]) -> None:
    config = {"_class_name": "EulerDiscreteScheduler", "beta_end": 0.012}
    assert NoiseSchedule.from_config(config | fields) == NoiseSchedule.from_config(config)


@pytest.mark.parametrize(
    "name", [name for name, one in SCHEDULER_CLASSES.items() if one.training == "betas"]
)
def test_spacing_left_out_is_the_default_of_the_class(name: str) -> None:
    default = inspect.signature(CLASSES[name].__init__).parameters["timestep_spacing"].default
    schedule = published_schedule({"_class_name": name})
    assert schedule == ("lcm" if name in ("LCMScheduler", "TCDScheduler") else default)


@pytest.mark.parametrize(
    ("name", "spacing", "expected"),
    [
        ("EulerDiscreteScheduler", "leading", "karras-leading"),
        ("EulerDiscreteScheduler", "trailing", "karras-trailing"),
        ("HeunDiscreteScheduler", "linspace", "karras"),
        ("DPMSolverMultistepScheduler", "leading", "karras"),
        ("EulerAncestralDiscreteScheduler", "leading", "leading"),  # which has no curves
        ("DDIMScheduler", "trailing", "trailing"),
    ],
)
def test_karras_levels_span_what_the_class_spans(name: str, spacing: str, expected: str) -> None:
    config = {"_class_name": name, "use_karras_sigmas": True, "timestep_spacing": spacing}
    assert published_schedule(config) == expected


@pytest.mark.parametrize(
    "folder",
    sorted(
        path.parts[-3] for path in (SHARED / "facts/checkpoints/configs").glob("*/scheduler/*.json")
    ),
)
def test_published_configurations_are_supported(folder: str) -> None:
    path = f"facts/checkpoints/configs/{folder}/scheduler/scheduler_config.json"
    config = json.loads(shared_file(path).read_text())
    assert difference(config) < TOLERANCE
