"""Evenly spaced timesteps, and noise levels at timesteps.

"leading", "linspace" and "trailing" are the three spacings of table 2 in Lin et al. 2023.
"""

from typing import Literal

import numpy as np

from models.samplers.noise_schedule import FloatArray, NoiseLevels

Spacing = Literal["leading", "linspace", "trailing"]


def stride(count: int, noise_schedule: NoiseLevels) -> int:
    """Return the whole timesteps between two of `count` leading ones; at least 1."""
    return max(noise_schedule.num_train_timesteps // count, 1)


def spaced_timesteps(spacing: Spacing, count: int, noise_schedule: NoiseLevels) -> FloatArray:
    """Return (count,) timesteps, noisiest first; "linspace" ones are not rounded.

    A single "leading" or "linspace" timestep is the clean end, as in diffusers: those spacings fix
    the clean end first. "trailing" fixes the noisy end and suits very few steps. With as many steps
    as trained timesteps, "leading" starts past the last: see `within_training`.
    """
    last = noise_schedule.num_train_timesteps - 1
    match spacing:
        case "leading":
            ascending = np.arange(count) * stride(count, noise_schedule)
            return ascending[::-1].astype(np.float64) + noise_schedule.steps_offset
        case "linspace":
            return np.linspace(0, last, count)[::-1]
        case "trailing":
            # For 61 and other counts rounding gives np.arange one timestep too many, below 0.
            descending = np.arange(last + 1, 0, -(last + 1) / count)[:count]
            return np.round(descending) - 1.0


def within_training(timesteps: FloatArray, noise_schedule: NoiseLevels) -> FloatArray:
    """Return the timesteps, limited to the last that the network was trained on."""
    return np.minimum(timesteps, noise_schedule.num_train_timesteps - 1)


def log_sigmas_at(timesteps: FloatArray, noise_schedule: NoiseLevels) -> FloatArray:
    """Return the noise levels at timesteps, their logarithms linear between the trained ones."""
    trained = np.arange(noise_schedule.num_train_timesteps)
    return np.exp(np.interp(timesteps, trained, np.log(noise_schedule.sigmas)))


def rows_skipped(steps: int, strength: float | None) -> int:
    """Return the number of the noisiest steps that image-to-image leaves out; 0 for None.

    int(steps * strength) steps remain, with the rounding of diffusers' `get_timesteps`. Raises
    ValueError where none would.
    """
    if strength is None:
        return 0
    remaining = int(steps * strength)
    if not 1 <= remaining <= steps:
        raise ValueError(f"strength {strength} of {steps} steps leaves {remaining}, not 1..{steps}")
    return steps - remaining
