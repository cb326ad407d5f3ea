"""Marks of a training with EDM preconditioning in a single file, and the scheduler they stand for.

CosXL holds its highest and lowest noise level as tensors of one number. Playground v2.5 holds the
mean and deviation of its latents, by which it is a family of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGMA_MAX, SIGMA_MIN = "edm_vpred.sigma_max", "edm_vpred.sigma_min"

# The network predicts velocities; the curve is that of its authors (ComfyUI's V_PREDICTION_EDM,
# and the documentation of diffusers' EDMEulerScheduler).
_COSXL: dict[str, Any] = {
    "_class_name": "EDMEulerScheduler",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_data": 1.0,
    "sigma_max": 120.0,
    "sigma_min": 0.002,
    "sigma_schedule": "exponential",
}


def edm_scheduler(numbers: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the scheduler's configuration of a file that holds these numbers; None: of betas."""
    if SIGMA_MAX not in numbers:
        return None
    found = {"sigma_max": numbers[SIGMA_MAX], "sigma_min": numbers.get(SIGMA_MIN)}
    return _COSXL | {key: round(value, 6) for key, value in found.items() if value}
