"""Samplers: their titles and those of schedules, their evaluations per step, and their eta.

A sampler or schedule without a title is shown with its name.
"""

from protocol.errors import InvalidRequest

__all__ = ["SAMPLER_TITLES", "SCHEDULE_TITLES", "evaluations", "resolve_eta"]

# As AUTOMATIC1111's web interface lists them, where it does.
SAMPLER_TITLES = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "dpmpp_2m": "DPM++ 2M",
    "unipc": "UniPC",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "deis": "DEIS",
    "ddpm": "DDPM",
    "lcm": "LCM",
    "tcd": "TCD",
}
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
}

_TWO_EVALUATIONS = {"heun", "dpm2", "dpm2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"}
_WITH_ETA = "ddim"


def evaluations(sampler: str, steps: int) -> int:
    """Return the number of network evaluations in `steps`, at least 1."""
    return 2 * steps - 1 if sampler in _TWO_EVALUATIONS else steps


def resolve_eta(eta: float | None, sampler: str, default: float) -> float:
    """Return the share of fresh noise in each step: `eta`, or the model's `default` for None.

    Raises `InvalidRequest` if the sampler does not take it.
    """
    if sampler == _WITH_ETA:
        return default if eta is None else eta
    if eta:
        bound = f"0 with the sampler {sampler}; only {_WITH_ETA} has it"
        raise InvalidRequest("eta", eta, bound, "eta-not-for-this-sampler")
    return 0.0
