"""Continuous noise levels with the preconditioning of EDM.

Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 1:

    D(x, sigma) = c_skip * x + c_out * F(c_in * x, ln(sigma) / 4)

With sigma_d, the deviation of the data, c_skip = sigma_d^2 / (sigma^2 + sigma_d^2), c_out = sigma *
sigma_d / sqrt(sigma^2 + sigma_d^2) and c_in = 1 / sqrt(sigma^2 + sigma_d^2). For x / sigma_d and
sigma / sigma_d, F is the negative velocity. So samplers compile a table for a velocity and for data
of deviation 1, and `preconditioned` changes the units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import log
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
from models.samplers.table import SamplerTable

MAX_SIGMA = 100_000.0
_SIGNS = {"epsilon": -1.0, "v_prediction": 1.0}  # of the network's output, in velocities


@dataclass(frozen=True)
class EdmSchedule(NoiseLevels):
    """A scheduler configuration with EDM's preconditioning; names are those of diffusers.

    The levels are T positions even in log sigma, which is not bound to them. sign: -1 for a network
    that predicts F as in the paper, "epsilon" in diffusers; 1 for one that predicts a velocity
    (CosXL). Raises ValueError for numbers out of bounds.
    """

    prediction_type: PredictionType = "v_prediction"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    sign: float = -1.0

    def __post_init__(self) -> None:
        check_timesteps(self.num_train_timesteps)
        for name in ("sigma_min", "sigma_max", "sigma_data"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 1 / MAX_SIGMA <= value <= MAX_SIGMA:
                raise ValueError(f"{name} is {value!r}, not {1 / MAX_SIGMA:g} to {MAX_SIGMA:g}")
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min is {self.sigma_min}, not below sigma_max {self.sigma_max}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a `scheduler_config.json`. Raises ValueError for what is computed differently."""
        full = with_defaults(config)
        check_scheduler(full)
        kind = full.get("prediction_type", "epsilon")
        if kind not in tuple(_SIGNS):
            raise ValueError(f"prediction_type is {kind!r}, not one of {tuple(_SIGNS)}")
        known = {field.name: full[field.name] for field in fields(cls) if field.name in full}
        return cls(**known | {"prediction_type": "v_prediction", "sign": _SIGNS[kind]})

    @cached_property
    def sigmas(self) -> FloatArray:
        low, high = (log(end / self.sigma_data) for end in (self.sigma_min, self.sigma_max))
        return frozen(np.exp(np.linspace(low, high, self.num_train_timesteps)))

    def sigmas_at(self, timesteps: FloatArray) -> FloatArray:
        trained = np.arange(self.num_train_timesteps)
        return np.exp(np.interp(timesteps, trained, np.log(self.sigmas)))

    def trained_timesteps(self, timesteps: FloatArray) -> FloatArray:
        return timesteps

    def curve_ends(self, spaced: FloatArray) -> tuple[float, float]:
        return float(self.sigmas[-1]), float(self.sigmas[0])

    def network_timesteps(self, timesteps: FloatArray) -> FloatArray:
        noise: FloatArray = 0.25 * np.log(self.sigmas_at(timesteps) * self.sigma_data)
        return noise

    def output_at(self, level: Level) -> tuple[float, float]:
        of_data, of_noise = super().output_at(Level(level.signal, level.noise / self.sigma_data))
        return self.sign * of_data / self.sigma_data, self.sign * of_noise

    @property
    def description(self) -> str:
        kind = next(kind for kind, sign in _SIGNS.items() if sign == self.sign)
        return f"{kind}, preconditioned as in EDM, sigma_data {self.sigma_data:g}"


def preconditioned(table: SamplerTable, schedule: EdmSchedule) -> SamplerTable:
    """Return the table of a velocity, for data of deviation 1, for the network and its latents.

    Pure noise at the start also replaces data of deviation 1, whatever theirs is, as in diffusers.
    """
    data = schedule.sigma_data
    start_noise = data * table.start_noise
    if not table.start_signal:
        sigma = data * schedule.sigmas_at(table.timestep[:1])[0]
        scale = table.input_scale[0] / data
        start_noise = ((sigma**2 + 1.0) / (sigma**2 + data**2)) ** 0.5 / scale
    return replace(
        table,
        start_noise=float(start_noise),
        timestep=frozen(schedule.network_timesteps(table.timestep)),
        input_scale=frozen(table.input_scale / data),
        predict_output=frozen(schedule.sign * data * table.predict_output),
        noise=frozen(data * table.noise),
        known_noise=frozen(data * table.known_noise),
    )
