"""Published scheduler configurations, compared with the computations of this package.

A `scheduler_config.json` names a class of diffusers, and holds some of its fields; the class has
defaults for the rest. Every class and every value that would be computed differently here is
refused by its name. The fields are those of diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Values = tuple[Any, ...]
Training = Literal["betas", "edm", "flow"]

CURVES = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}
# diffusers truncates the timesteps of other curves in multistep solvers, and rounds those of
# Karras's levels in the solvers of KDPM2. Here it is the other way round.
_MULTISTEP_CURVES = ("use_karras_sigmas",)
_KDPM2_CURVES = ("use_exponential_sigmas", "use_beta_sigmas")
SPACINGS = ("leading", "linspace", "trailing")
# Schedules of a curve that begins and ends where another spacing than "linspace" does.
_SPACED = ("karras-leading", "karras-trailing")

_OFF: Values = (False, None)  # of a switch
_CLIPPING: dict[str, Values] = {"clip_sample": _OFF, "thresholding": _OFF}


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of diffusers that is computed here.

    defaults: of the fields whose default is not that of `NoiseSchedule`, or not supported.
    spacing: the default of `timestep_spacing`; None for a class with timesteps of its own. neutral:
    its other fields, each with the values that are computed; every other value is refused. curves:
    those of the fields `CURVES` that are computed; empty for a class without such fields.
    whole_range: curves span all trained levels, with any spacing. zero_snr: it has
    `rescale_betas_zero_snr`. training: the noise levels that it is for. flow: the schedule of a
    flow, where it has one.
    """

    defaults: Mapping[str, Any]
    neutral: Mapping[str, Values]
    spacing: str | None = "linspace"
    curves: tuple[str, ...] = ()
    whole_range: bool = False
    zero_snr: bool = False
    training: Training = "betas"
    flow: str | None = None


_OTHER_BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
_DISTILLED_BETAS = {**_OTHER_BETAS, "beta_schedule": "scaled_linear"}
_KDPM2 = SchedulerClass(_OTHER_BETAS, {}, curves=_KDPM2_CURVES)
_DDIM = SchedulerClass({"clip_sample": True}, _CLIPPING, "leading", zero_snr=True)
# The two small variances are the same, one of them computed from its logarithm.
_DDPM_NEUTRAL = {**_CLIPPING, "variance_type": ("fixed_small", "fixed_small_log", None)}
_DDPM = SchedulerClass({"clip_sample": True}, _DDPM_NEUTRAL, "leading", zero_snr=True)
_DISTILLED_STEPS = {**_CLIPPING, "original_inference_steps": (50,)}

_EDM: dict[str, Values] = {
    "thresholding": _OFF,
    "rho": (7.0,),
    "final_sigmas_type": ("zero",),
    "sigma_schedule": ("karras", "exponential"),
}

# Names of other solvers stand for the class's own: diffusers replaces them.
SCHEDULER_CLASSES: Mapping[str, SchedulerClass] = {
    "DDIMParallelScheduler": _DDIM,
    "DDIMScheduler": _DDIM,
    "DDPMParallelScheduler": _DDPM,
    "DDPMScheduler": _DDPM,
    "DEISMultistepScheduler": SchedulerClass(
        {},
        {
            "use_flow_sigmas": _OFF,
            "solver_order": (2,),
            "thresholding": _OFF,
            "algorithm_type": ("deis", "dpmsolver", "dpmsolver++"),
            "solver_type": ("logrho", "midpoint", "heun", "bh1", "bh2"),
            "lower_order_final": (True,),
        },
        curves=_MULTISTEP_CURVES,
        whole_range=True,
    ),
    "DPMSolverMultistepScheduler": SchedulerClass(
        {},
        {
            "solver_order": (2,),
            "thresholding": _OFF,
            "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
            "use_lu_lambdas": _OFF,
            "final_sigmas_type": ("zero",),
            "variance_type": (None,),
        },
        curves=_MULTISTEP_CURVES,
        whole_range=True,
        zero_snr=True,
        flow="flow-dpm",
    ),
    "DPMSolverSDEScheduler": SchedulerClass(
        _OTHER_BETAS, {"noise_sampler_seed": (None,)}, curves=tuple(CURVES)
    ),
    "EDMDPMSolverMultistepScheduler": SchedulerClass(
        {},
        {
            **_EDM,
            "solver_order": (2,),
            "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
        },
        spacing=None,
        training="edm",
    ),
    "EDMEulerScheduler": SchedulerClass({}, _EDM, spacing=None, training="edm"),
    "EulerAncestralDiscreteScheduler": SchedulerClass({}, {}, zero_snr=True),
    "EulerDiscreteScheduler": SchedulerClass(
        {},
        {
            "interpolation_type": ("linear",),
            "timestep_type": ("discrete",),
            "final_sigmas_type": ("zero",),
        },
        curves=tuple(CURVES),
        zero_snr=True,
    ),
    "FlowMatchEulerDiscreteScheduler": SchedulerClass(
        {},
        {
            **dict.fromkeys(CURVES, _OFF),
            "use_dynamic_shifting": _OFF,
            "invert_sigmas": _OFF,
            "shift_terminal": (None,),
            "stochastic_sampling": _OFF,
        },
        spacing=None,
        training="flow",
        flow="flow",
    ),
    "HeunDiscreteScheduler": SchedulerClass(
        _OTHER_BETAS, {"clip_sample": _OFF}, curves=tuple(CURVES)
    ),
    "KDPM2AncestralDiscreteScheduler": _KDPM2,
    "KDPM2DiscreteScheduler": _KDPM2,
    "LCMScheduler": SchedulerClass(
        _DISTILLED_BETAS,
        {**_DISTILLED_STEPS, "timestep_scaling": (10.0,)},
        spacing=None,
        zero_snr=True,
    ),
    "LMSDiscreteScheduler": SchedulerClass({}, {}, curves=tuple(CURVES)),
    "PNDMScheduler": SchedulerClass(
        # Its first steps are of Runge-Kutta by default, and of PLMS in Stable Diffusion.
        {"skip_prk_steps": False},
        {"skip_prk_steps": (True,)},
        "leading",
    ),
    "TCDScheduler": SchedulerClass(_DISTILLED_BETAS, _DISTILLED_STEPS, spacing=None, zero_snr=True),
    "UniPCMultistepScheduler": SchedulerClass(
        {},
        {
            "solver_order": (2,),
            "thresholding": _OFF,
            "predict_x0": (True,),
            "solver_type": ("bh2", "midpoint", "heun", "logrho"),
            "lower_order_final": (True,),
            "disable_corrector": ([], ()),
            "solver_p": (None,),
            "use_dynamic_shifting": _OFF,
            "shift_terminal": (None,),
            "final_sigmas_type": ("zero",),
        },
        curves=_MULTISTEP_CURVES,
        whole_range=True,
        zero_snr=True,
        flow="flow-unipc",
    ),
}

# A configuration without a class: `models.loading.scheduler` refuses it where nothing else names
# one. `clip_sample` bounds pixels, and latents have no such bound.
_UNNAMED = SchedulerClass(
    {}, {}, "leading", curves=_MULTISTEP_CURVES, whole_range=True, zero_snr=True
)

# Refused even where the class lacks the field: the model would not be one of betas, or its
# predictions were bounded in training.
_ALWAYS: dict[str, Values] = {
    "thresholding": _OFF,
    "timestep_type": ("discrete", None),
}

# Fields of `NoiseSchedule`, and the spacing.
_COMPUTED = {
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "steps_offset",
    "set_alpha_to_one",
    "timestep_spacing",
}

# All other fields of the scheduler classes of diffusers. A class ignores those that it lacks.
_NAMES = """
    algorithm_type alpha_cum_end alpha_cum_start base_image_seq_len base_shift block_length
    clip_denoised clip_sample clip_sample_range corrector_k corrector_order corrector_selection
    corrector_selection_tau corrector_steps correct_steps disable_corrector
    dynamic_thresholding_ratio editing_threshold entropy_bound eps eta euler_at_final
    final_sigmas_type final_step_size_scale flow_shift gamma gamma_cum_end gamma_cum_start
    interpolation_type invert_sigmas lambda_min_clipped lower_order_final mask_token_id
    masking_schedule max_image_seq_len max_shift minimal_topk n_grid noise_mode noise_sampler_seed
    num_inference_steps num_policy_substeps num_vec_classes original_inference_steps predict_x0
    predictor_order rho s s_churn s_max s_min s_noise sample_max_value sampling_eps scale_factors
    scaler schedule_mode scheduler_type shift shift_terminal sigma_data sigma_max sigma_min
    sigma_schedule skip_prk_steps snr snr_shift_scale solver_order solver_p solver_type stage_range
    stages stochastic_sampling t_lim_ode t_lim_ode_below t_max t_min tail_step_multiplier tail_steps
    tau_func threshold thresholding time_shift_type timestep_scaling timestep_type tsr_k tsr_sigma
    upscale_mode use_beta_sigmas use_dynamic_shifting use_exponential_sigmas use_flow_sigmas
    use_karras_sigmas use_lu_lambdas variance_type
"""
FIELDS = frozenset(_NAMES.split())

# Fields of older versions, with the values that change nothing.
_OLDER: dict[str, Values] = {
    "predict_epsilon": (True, None),
    "tensor_format": ("pt", "np", None),
    "timestep_values": (None,),
}


def scheduler_class(config: Mapping[str, Any]) -> SchedulerClass:
    """Return the class that a configuration names. Raises ValueError, naming it."""
    name = config.get("_class_name")
    if name is None:
        return _UNNAMED
    found = SCHEDULER_CLASSES.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"scheduler class {name!r} is not supported; have {', '.join(SCHEDULER_CLASSES)}"
        )
    return found


def has_zero_snr(config: Mapping[str, Any]) -> bool:
    """Return True if the class of a configuration can have zero terminal SNR.

    Raises ValueError for an unsupported class.
    """
    return scheduler_class(config).zero_snr


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the defaults of its class.

    Raises ValueError for an unsupported class.
    """
    chosen = scheduler_class(config)
    # Fields that were defaults when the file was written take those of the class that reads it.
    unset = config.get("_use_default_values")
    unset = unset if isinstance(unset, list) else []
    given = {key: value for key, value in config.items() if key not in unset}
    spacing = {"timestep_spacing": chosen.spacing} if chosen.spacing else {}
    return {**spacing, **chosen.defaults, **given}


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a class or field that is computed differently here, naming it.

    config: with the defaults of its class.
    """
    chosen = scheduler_class(config)
    name = config.get("_class_name", "scheduler configuration")
    for key, value in config.items():
        if not _same_result(chosen, key, value, config):
            raise ValueError(f"{name}: {key} = {value!r} is not supported")
    if chosen.training == "betas" and training_of(config) == "flow":
        _check_flow(name, config)
        return
    if chosen.spacing and config["timestep_spacing"] not in SPACINGS:
        spacing = config["timestep_spacing"]
        raise ValueError(f"{name}: timestep_spacing is {spacing!r}, not one of {SPACINGS}")
    if chosen.curves:
        _check_curve(name, chosen, config)


def training_of(config: Mapping[str, Any]) -> Training:
    """Return the kind of noise levels of a configuration. Raises ValueError for another class."""
    chosen = scheduler_class(config)
    return "flow" if chosen.flow and config.get("use_flow_sigmas") else chosen.training


def _check_flow(name: str, config: Mapping[str, Any]) -> None:
    """Raise ValueError for `use_flow_sigmas` with what diffusers computes for no flow."""
    kind = config.get("prediction_type", "epsilon")
    if kind != "flow_prediction":
        raise ValueError(
            f"{name}: use_flow_sigmas = True with prediction_type = {kind!r} is not supported"
        )
    for curve in CURVES:
        if config.get(curve):
            raise ValueError(f"{name}: use_flow_sigmas and {curve}, of which there can be one")


def _same_result(
    chosen: SchedulerClass, key: str, value: object, config: Mapping[str, Any]
) -> bool:
    """Return False for a field with another result in diffusers than here."""
    if key.startswith("_") or key == "timestep_spacing":
        return True
    if key == "rescale_betas_zero_snr":
        return chosen.zero_snr or value in _OFF
    if key == "use_flow_sigmas":
        return value in _OFF or (value is True and chosen.flow is not None)
    if key in _COMPUTED:
        return True
    if key in chosen.neutral:
        return value in chosen.neutral[key]
    if key in _ALWAYS:
        return value in _ALWAYS[key]
    if key == "timesteps":  # the older name of num_train_timesteps, which diffusers ignores
        return value in (config.get("num_train_timesteps", 1000), None)
    return key in FIELDS or value in _OLDER.get(key, _OFF)


def _check_curve(name: str, chosen: SchedulerClass, config: Mapping[str, Any]) -> None:
    """Raise ValueError for a curve of noise levels that has no schedule here."""
    curves = [key for key in CURVES if config.get(key)]
    if not curves:
        return
    if len(curves) > 1:
        raise ValueError(f"{name}: {' and '.join(curves)}, of which there can be one")
    for key in ("sigma_min", "sigma_max"):
        if config.get(key) is not None:
            raise ValueError(f"{name}: {key} = {config[key]!r} with {curves[0]} is not supported")
    curve, spacing, betas = curves[0], config["timestep_spacing"], config.get("beta_schedule")
    if curve not in chosen.curves:
        raise ValueError(f"{name}: {curve} = True is not supported")
    # Other curves begin and end where the spacing does.
    spaced = spacing == "linspace" or f"{CURVES[curve]}-{spacing}" in _SPACED
    if not spaced and not chosen.whole_range:
        raise ValueError(
            f"{name}: {curve} = True with timestep_spacing = {spacing!r} is not supported"
        )
    # Timesteps are then truncated, or repeated, which diffusers cannot compute.
    if betas == "squaredcos_cap_v2" and chosen.whole_range:
        raise ValueError(f"{name}: {curve} = True with beta_schedule = {betas!r} is not supported")


def published_schedule(config: Mapping[str, Any]) -> str:
    """Return the schedule of a configuration. Raises ValueError for an unsupported class."""
    chosen, training = scheduler_class(config), training_of(config)
    if training == "flow":
        assert chosen.flow is not None
        return chosen.flow
    if training == "edm":
        return str(config.get("sigma_schedule", "karras"))
    if chosen.spacing is None:
        return "lcm"
    full = with_defaults(config)
    spacing = str(full["timestep_spacing"])
    curve = next((name for key, name in CURVES.items() if full.get(key)), None)
    if curve is None or not chosen.curves:
        return spacing
    spaced = f"{curve}-{spacing}"
    return spaced if spaced in _SPACED and not chosen.whole_range else curve
