"""The names of samplers and schedules in AUTOMATIC1111's web interface, and ours for them.

Its names are those of version 1.10 (modules/sd_samplers*.py and sd_schedulers.py). A sampler that
it does not have keeps our title, which other programs of its kind use, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.request.samplers import SAMPLER_TITLES

AUTOMATIC, UNIFORM = "Automatic", "Uniform"


@dataclass(frozen=True)
class Scheduler:
    """A schedule of AUTOMATIC1111: its name in requests, its label, and our schedule."""

    name: str
    label: str
    schedule: str


SCHEDULERS = (
    Scheduler("uniform", UNIFORM, "linspace"),
    Scheduler("karras", "Karras", "karras"),
    Scheduler("exponential", "Exponential", "exponential"),
    Scheduler("polyexponential", "Polyexponential", "polyexponential"),
    Scheduler("sgm_uniform", "SGM Uniform", "sgm_uniform"),
    Scheduler("align_your_steps", "Align Your Steps", "align-your-steps"),
    Scheduler("simple", "Simple", "simple"),
    Scheduler("normal", "Normal", "normal"),
    Scheduler("ddim", "DDIM", "ddim"),
    Scheduler("beta", "Beta", "beta"),
)
# Of our schedules, those that are nearest to one of its own.
_NEAREST = {
    "karras-leading": "Karras",
    "karras-trailing": "Karras",
    "align-your-steps-xl": "Align Your Steps",
}
_LABELS = {one.schedule: one.label for one in SCHEDULERS} | _NEAREST
# "discrete" and "ays" are names of stable-diffusion.cpp, whose clients speak this API, too.
_ALIASES = {"sgmuniform": "sgm_uniform", "discrete": "linspace", "ays": "align-your-steps"}
_SCHEDULES = {
    **{spelling.lower(): one.schedule for one in SCHEDULERS for spelling in (one.label, one.name)},
    **_ALIASES,
}

# Further names of its samplers, the last of some that of stable-diffusion.cpp.
SAMPLER_ALIASES: Mapping[str, tuple[str, ...]] = {
    "ddim": ("ddim",),
    "plms": ("plms",),
    "unipc": ("unipc",),
    "euler": ("k_euler",),
    "euler_ancestral": ("k_euler_a", "k_euler_ancestral", "euler_a"),
    "heun": ("k_heun",),
    "lms": ("k_lms",),
    "dpm2": ("k_dpm_2",),
    "dpm2_ancestral": ("k_dpm_2_a",),
    "dpmpp_2m": ("k_dpmpp_2m", "dpm++2m"),
    "dpmpp_2s_ancestral": ("k_dpmpp_2s_a", "dpm++2s_a"),
    "dpmpp_sde": ("k_dpmpp_sde",),
    "dpmpp_2m_sde": ("k_dpmpp_2m_sde",),
    "dpmpp_3m_sde": ("k_dpmpp_3m_sde",),
    "lcm": ("k_lcm",),
}
_SAMPLERS = {
    **{title.lower(): name for name, title in SAMPLER_TITLES.items()},
    **{alias: name for name, aliases in SAMPLER_ALIASES.items() for alias in aliases},
}

# The schedule that "Automatic" stands for: uniform noise levels, except for these samplers.
_AUTOMATIC = {
    **dict.fromkeys(("ddim", "plms"), "leading"),
    **dict.fromkeys(("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_ancestral"), "karras"),
    **dict.fromkeys(("dpm2", "dpm2_ancestral"), "karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_3m_sde"), "exponential"),
}


def sampler_label(sampler: str) -> str:
    """Return AUTOMATIC1111's name of our sampler, or our title if it has none."""
    return SAMPLER_TITLES.get(sampler, sampler)


def schedule_label(sampler: str, schedule: str) -> str:
    """Return AUTOMATIC1111's label of our schedule, or the nearest that it has."""
    if schedule in _LABELS:
        return _LABELS[schedule]
    return AUTOMATIC if automatic_schedule(sampler) == schedule else UNIFORM


def automatic_schedule(sampler: str) -> str:
    """Return our schedule for what "Automatic" means with our sampler."""
    return _AUTOMATIC.get(sampler, "linspace")


def our_schedule(sampler: str, label: str) -> str | None:
    """Return our schedule for a label or name of AUTOMATIC1111; None if we have none."""
    if label.lower() == AUTOMATIC.lower():
        return automatic_schedule(sampler)
    return _SCHEDULES.get(label.lower())


def our_sampler(label: str, schedule_label: str = AUTOMATIC) -> tuple[str | None, str | None]:
    """Return our sampler and schedule for AUTOMATIC1111's names; None for one that we have not.

    Before version 1.9 a sampler's name included the schedule: "DPM++ 2M Karras".
    """
    sampler = _SAMPLERS.get(label.lower())
    if sampler is not None:
        return sampler, our_schedule(sampler, schedule_label)
    for suffix, schedule in _SCHEDULES.items():
        sampler = _SAMPLERS.get(label.lower().removesuffix(f" {suffix}"))
        if sampler is not None:
            return sampler, schedule
    return None, None
