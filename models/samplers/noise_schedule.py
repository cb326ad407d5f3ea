"""The noise levels a latent diffusion model was trained with.

Most models have levels of betas:

    x_t = sqrt(alphas_cumprod[t]) * x_0 + sqrt(1 - alphas_cumprod[t]) * noise
    (Ho et al. 2020, eq. 4)

Others: `edm_schedule.py`, `flow_schedule.py`. Independent of samplers: `models.samplers` chooses
the timesteps.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf, log
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from models.samplers.scheduler_config import check_scheduler, training_of, with_defaults

FloatArray = NDArray[np.float64]
MAX_TIMESTEPS = 100_000  # published networks have 1000

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]

# Of levels of betas; "flow_prediction" has levels of its own.
_PREDICTION_TYPES = tuple(kind for kind in get_args(PredictionType) if kind != "flow_prediction")

# Replaces 0, "no signal left", where sigma = noise / signal must stay finite: the smallest positive
# half-precision number, the value that diffusers uses for zero-terminal-SNR schedules.
_SMALLEST_ALPHA = 2.0**-24


class Level(NamedTuple):
    """A noise level in a sampler's own space: x = signal * z0 + noise * unit noise."""

    signal: float
    noise: float


@dataclass(frozen=True)
class NoiseLevels(ABC):
    """The noise levels of a training, at timesteps 0 to T - 1, the cleanest first.

    sigma is the ratio of noise to signal. steps_offset: of the timesteps with "leading" spacing.
    """

    num_train_timesteps: int = 1000
    prediction_type: PredictionType = "epsilon"
    steps_offset: int = 0
    # None: the configuration lacks it, and each sampler has its own default.
    set_alpha_to_one: bool | None = None

    @property
    @abstractmethod
    def sigmas(self) -> FloatArray:
        """Return (T,): the sigma of each timestep, increasing, always finite."""

    @property
    def alphas_cumprod(self) -> FloatArray:
        """Return (T,): share of the signal's variance left at each timestep, decreasing."""
        return 1.0 / (1.0 + self.sigmas**2)

    def level(self, sigma: float) -> Level:
        """Return the level with this sigma as the network gets it: of variance 1."""
        signal = (sigma**2 + 1.0) ** -0.5
        return Level(signal, sigma * signal)

    def sigmas_at(self, timesteps: FloatArray) -> FloatArray:
        """Return the sigmas at timesteps, linear between the trained ones, constant beyond."""
        return np.interp(timesteps, np.arange(self.num_train_timesteps), self.sigmas)

    def timesteps_at(self, sigmas: FloatArray) -> FloatArray:
        """Return the timesteps at sigmas, linear in log sigma between the trained ones."""
        trained = np.arange(self.num_train_timesteps, dtype=np.float64)
        return np.interp(np.log(sigmas), np.log(self.sigmas), trained)

    def trained_timesteps(self, timesteps: FloatArray) -> FloatArray:
        """Return the timesteps of the training that are closest to those given."""
        return timesteps.round()

    def curve_ends(self, spaced: FloatArray) -> tuple[float, float]:
        """Return the ends of a curve of sigmas, given those of spaced timesteps."""
        return float(spaced[0]), float(spaced[-1])

    def network_timesteps(self, timesteps: FloatArray) -> FloatArray:
        """Return the network's input at timesteps."""
        return timesteps

    def output_at(self, level: Level) -> tuple[float, float]:
        """Return the shares of z0 and of unit noise in a perfect network's output at a level."""
        signal, noise = level
        length = (signal**2 + noise**2) ** 0.5
        return {
            "epsilon": (0.0, 1.0),
            "sample": (1.0, 0.0),
            "v_prediction": (-noise / length, signal / length),
            "flow_prediction": (-1.0, 1.0),
        }[self.prediction_type]

    @property
    def description(self) -> str:
        """Return what the network predicts, in words."""
        return self.prediction_type

    @property
    def default_sampler(self) -> tuple[str, str]:
        """Return a sampler and a schedule that fit the levels, for measurements."""
        return "dpmpp_2m", "trailing"


@dataclass(frozen=True)
class NoiseSchedule(NoiseLevels):
    """A published scheduler configuration; names and defaults are those of diffusers.

    Frozen and hashable, so that compiled sampler tables can be cached by it. Raises ValueError for
    a schedule that is unknown or cannot be sampled from.
    """

    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.prediction_type not in _PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type is {self.prediction_type!r}, not one of {_PREDICTION_TYPES}"
            )
        if self.trained_betas is None and self.beta_schedule not in tuple(_BETAS):
            raise ValueError(f"beta_schedule is {self.beta_schedule!r}, not one of {tuple(_BETAS)}")
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise ValueError(
                f"{len(self.trained_betas)} trained_betas for {self.num_train_timesteps} timesteps"
            )
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise ValueError(
                "rescale_betas_zero_snr with prediction_type 'epsilon': where no signal is left, "
                "the noise alone does not tell the image"
            )
        if not np.all((self.betas > 0.0) & (self.betas < 1.0)):
            source = "beta_start and beta_end" if self.trained_betas is None else "trained_betas"
            low, high = self.betas.min(), self.betas.max()
            raise ValueError(f"betas of {source} are in {low:g}..{high:g}, not between 0 and 1")

    def _check_numbers(self) -> None:
        check_timesteps(self.num_train_timesteps)
        if type(self.steps_offset) is not int:
            raise ValueError(f"steps_offset is {self.steps_offset!r}, not a whole number")
        for name in ("beta_start", "beta_end"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < MAX_TIMESTEPS:
                raise ValueError(f"{name} is {value!r}, not a number between 0 and 1")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a `scheduler_config.json`; a missing key takes the default of its class.

        Raises ValueError for a class or a value that is computed differently here, naming it:
        see `scheduler_config`. For any kind of noise levels: see `published_levels`.
        """
        full = with_defaults(config)
        check_scheduler(full)
        if training_of(full) != "betas":
            raise ValueError(f"scheduler class {full['_class_name']!r} has no betas")
        known = {field.name: full[field.name] for field in fields(cls) if field.name in full}
        if known.get("trained_betas") is not None:
            known["trained_betas"] = _numbers("trained_betas", known["trained_betas"])
        schedule = cls(**known)
        schedule._check_clipping(full.get("lambda_min_clipped", -inf))
        return schedule

    def _check_clipping(self, lambda_min: object) -> None:
        """Raise ValueError for a bound of log(signal / noise) that leaves out trained levels."""
        if not isinstance(lambda_min, int | float) or lambda_min > -log(self.sigmas[-1]):
            raise ValueError(f"lambda_min_clipped = {lambda_min!r} is not supported")

    @cached_property
    def betas(self) -> FloatArray:
        """Return (T,): variance of the noise added at each timestep, before zero-SNR rescaling."""
        if self.trained_betas is not None:
            return frozen(np.array(self.trained_betas, dtype=np.float64))
        make = _BETAS[self.beta_schedule]
        return frozen(make(self.beta_start, self.beta_end, self.num_train_timesteps))

    @cached_property
    def alphas_cumprod(self) -> FloatArray:
        """Return (T,): share of the signal's variance left at each timestep, decreasing, in [0, 1).

        Computed in float64 and rounded once to float32, the precision of checkpoints and of
        diffusers. At little noise that changes sigma by a relative 1e-5, and the network was
        trained with the rounded values.
        """
        alphas_cumprod = np.cumprod(1.0 - self.betas, dtype=np.float64)
        if self.rescale_betas_zero_snr:
            alphas_cumprod = _rescale_to_zero_terminal_snr(alphas_cumprod)
        return frozen(alphas_cumprod.astype(np.float32).astype(np.float64))

    @cached_property
    def sigmas(self) -> FloatArray:
        """Return (T,): noise over signal at each timestep, increasing, always finite."""
        nothing_left = self.alphas_cumprod == 0.0
        alphas_cumprod = np.where(nothing_left, _SMALLEST_ALPHA, self.alphas_cumprod)
        return frozen(np.sqrt((1.0 - alphas_cumprod) / alphas_cumprod))

    @property
    def description(self) -> str:
        zero_snr = ", with zero terminal SNR" if self.rescale_betas_zero_snr else ""
        return f"{self.prediction_type}{zero_snr}"


def check_timesteps(count: object) -> None:
    """Raise ValueError for a number of trained timesteps that is none."""
    if type(count) is not int or not 1 <= count <= MAX_TIMESTEPS:
        raise ValueError(f"num_train_timesteps is {count!r}, not 1 to {MAX_TIMESTEPS}")


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not all(type(v) in (int, float) for v in values):
        raise ValueError(f"{name} is not a list of numbers")
    return tuple(float(value) for value in values)


def _linear(start: float, end: float, count: int) -> FloatArray:
    return np.linspace(start, end, count)


def _scaled_linear(start: float, end: float, count: int) -> FloatArray:
    """Return betas linear in the square root: the schedule of Rombach et al. 2022."""
    return np.linspace(start**0.5, end**0.5, count) ** 2


def _squared_cosine(start: float, end: float, count: int) -> FloatArray:
    """Return betas of Nichol & Dhariwal 2021, eq. 17; it ignores `start` and `end`."""
    time = np.arange(count + 1) / count
    alphas_cumprod = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)


_BETAS = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _squared_cosine,
}


def _rescale_to_zero_terminal_snr(alphas_cumprod: FloatArray) -> FloatArray:
    """Shift the last signal to zero and keep the first: Lin et al. 2023, algorithm 1."""
    signal = np.sqrt(alphas_cumprod)
    first, last = signal[0], signal[-1]
    rescaled: FloatArray = ((signal - last) * first / (first - last)) ** 2
    return rescaled


def frozen(array: FloatArray) -> FloatArray:
    """Make the array read-only, because all users share it, and return it."""
    array.setflags(write=False)
    return array
