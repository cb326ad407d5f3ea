"""The samplers, schedules and ways to scale up latents: their titles and names elsewhere.

The arithmetic of a sampler is in `models.samplers.methods`, under the same name; this package does
not import it. A sampler or schedule of a worker that is not listed here has its name as title.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from protocol.errors import InvalidRequest

__all__ = ["SAMPLERS", "SAMPLER_TITLES", "SCHEDULE_TITLES", "WITH_ETA", "evaluations"]
__all__ += ["DEFAULT_LATENT_MODE", "LATENT_MODES", "LatentMode", "resolve_eta"]


@dataclass(frozen=True)
class SamplerInfo:
    """A sampler without its arithmetic.

    title: that of AUTOMATIC1111's web interface, if it has the sampler. scheduler: the scheduler
    class of diffusers, if it has one. two_stage: it evaluates every step twice, except the last.
    """

    title: str
    scheduler: str | None = None
    two_stage: bool = False


# In the order in which a worker offers them.
SAMPLERS = {
    "ddim": SamplerInfo("DDIM", "DDIMScheduler"),
    "plms": SamplerInfo("PLMS", "PNDMScheduler"),
    "euler": SamplerInfo("Euler", "EulerDiscreteScheduler"),
    "euler_ancestral": SamplerInfo("Euler a", "EulerAncestralDiscreteScheduler"),
    "dpmpp_2m": SamplerInfo("DPM++ 2M", "DPMSolverMultistepScheduler"),
    "unipc": SamplerInfo("UniPC", "UniPCMultistepScheduler"),
    "heun": SamplerInfo("Heun", "HeunDiscreteScheduler", two_stage=True),
    "dpm2": SamplerInfo("DPM2", "KDPM2DiscreteScheduler", two_stage=True),
    "dpm2_ancestral": SamplerInfo("DPM2 a", "KDPM2AncestralDiscreteScheduler", two_stage=True),
    "lms": SamplerInfo("LMS", "LMSDiscreteScheduler"),
    "dpmpp_2s_ancestral": SamplerInfo("DPM++ 2S a", two_stage=True),
    "dpmpp_sde": SamplerInfo("DPM++ SDE", "DPMSolverSDEScheduler", two_stage=True),
    "dpmpp_2m_sde": SamplerInfo("DPM++ 2M SDE"),
    "dpmpp_3m_sde": SamplerInfo("DPM++ 3M SDE"),
    "deis": SamplerInfo("DEIS", "DEISMultistepScheduler"),
    "ddpm": SamplerInfo("DDPM", "DDPMScheduler"),
    "lcm": SamplerInfo("LCM", "LCMScheduler"),
    "tcd": SamplerInfo("TCD", "TCDScheduler"),
}
SAMPLER_TITLES = {name: info.title for name, info in SAMPLERS.items()}
SCHEDULE_TITLES = {
    "leading": "Leading",
    "linspace": "Linspace",
    "trailing": "Trailing",
    "karras": "Karras",
    "karras-leading": "Karras, leading ends",
    "karras-trailing": "Karras, trailing ends",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "beta": "Beta",
    "normal": "Normal",
    "simple": "Simple",
    "sgm_uniform": "SGM Uniform",
    "ddim": "DDIM",
    "lcm": "LCM",
    "align-your-steps": "Align Your Steps",
    "align-your-steps-xl": "Align Your Steps, SDXL",
    "flow": "Flow",
    "flow-dpm": "Flow, DPM-Solver",
    "flow-unipc": "Flow, UniPC",
}

WITH_ETA = "ddim"


class LatentMode(NamedTuple):
    """A way to scale up latents for hires fix: AUTOMATIC1111's name, and torch's interpolation."""

    label: str
    interpolation: str
    antialias: bool = False


# The way where a request names none.
DEFAULT_LATENT_MODE = LatentMode("Latent (bicubic antialiased)", "bicubic", antialias=True)
LATENT_MODES: Mapping[str, LatentMode] = {
    "latent": LatentMode("Latent", "bilinear"),
    "latent-antialiased": LatentMode("Latent (antialiased)", "bilinear", antialias=True),
    "latent-bicubic": LatentMode("Latent (bicubic)", "bicubic"),
    "latent-nearest": LatentMode("Latent (nearest)", "nearest"),
    "latent-nearest-exact": LatentMode("Latent (nearest-exact)", "nearest-exact"),
}


def evaluations(sampler: str, steps: int) -> int:
    """Return how often the network is evaluated; at least once."""
    info = SAMPLERS.get(sampler)
    return 2 * steps - 1 if info is not None and info.two_stage else steps


def resolve_eta(eta: float | None, sampler: str, default: float) -> float:
    """Return the share of fresh noise in a step: `eta`, or the model's `default` for None.

    Raises `InvalidRequest` for another `eta` than 0 if the sampler has no such choice.
    """
    if sampler == WITH_ETA:
        return default if eta is None else eta
    if eta:
        bound = f"0 with the sampler {sampler}; only {WITH_ETA} has it"
        raise InvalidRequest("eta", eta, bound, "eta-not-for-this-sampler")
    return 0.0
