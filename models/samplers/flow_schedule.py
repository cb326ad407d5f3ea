"""Rectified flow (Liu et al. 2022; Esser et al. 2024, "Scaling Rectified Flow Transformers").

    x_s = (1 - s) * x_0 + s * noise,    the network predicts noise - x_0 from x_s and T * s

s is even in training, or shifted towards noise: shift * s / (1 + (shift - 1) * s).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from models.samplers.noise_schedule import (
    FloatArray,
    Level,
    NoiseLevels,
    PredictionType,
    check_timesteps,
    frozen,
)
from models.samplers.scheduler_config import check_scheduler, with_defaults

MAX_SHIFT = 100.0

# The largest s whose ratio of noise to signal is finite; diffusers' UniPC begins there.
NOISIEST = 1.0 - 1e-6


@dataclass(frozen=True)
class FlowSchedule(NoiseLevels):
    """A scheduler configuration of a flow-matched model; names are those of diffusers.

    Timesteps are T * s, in 0 to T. Raises ValueError for numbers out of bounds.
    """

    prediction_type: PredictionType = "flow_prediction"
    shift: float = 1.0

    def __post_init__(self) -> None:
        check_timesteps(self.num_train_timesteps)
        if type(self.shift) not in (int, float) or not 1 / MAX_SHIFT <= self.shift <= MAX_SHIFT:
            raise ValueError(f"shift is {self.shift!r}, not {1 / MAX_SHIFT:g} to {MAX_SHIFT:g}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a `scheduler_config.json`. Raises ValueError for what is computed differently."""
        full = with_defaults(config)
        check_scheduler(full)
        shift = full.get("shift" if "FlowMatch" in str(full["_class_name"]) else "flow_shift", 1.0)
        return cls(num_train_timesteps=full.get("num_train_timesteps", 1000), shift=shift)

    def shifted(self, s: FloatArray) -> FloatArray:
        """Return the levels s after the shift."""
        shifted: FloatArray = self.shift * s / (1 + (self.shift - 1) * s)
        return shifted

    def ratios(self, s: FloatArray) -> FloatArray:
        """Return the ratios of noise to signal, which are finite."""
        below: FloatArray = np.minimum(s, NOISIEST)
        return below / (1.0 - below)

    @cached_property
    def sigmas(self) -> FloatArray:
        even = np.arange(1, self.num_train_timesteps + 1) / self.num_train_timesteps
        return frozen(self.ratios(self.shifted(even)))

    def level(self, sigma: float) -> Level:
        """Return the level with this sigma as the network gets it: signal and noise add up to 1."""
        signal = 1.0 / (1.0 + sigma)
        return Level(signal, sigma * signal)

    @property
    def default_sampler(self) -> tuple[str, str]:
        return "dpmpp_2m", "flow-dpm"

    @property
    def description(self) -> str:
        return f"{self.prediction_type}, shift {self.shift:g}"
