"""The noise levels that x passes through from noise to image.

In three forms. Sigma levels: a list of noise-to-signal ratios that ends with 0 (most samplers).
Listed levels: the same as mixtures of signal and noise, for samplers that were written for
timesteps. Stride levels: positions in a table of alphas_cumprod, a fixed number of positions apart
(DDIM, PLMS).
"""

from dataclasses import dataclass

import numpy as np

from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import FloatArray, Level, NoiseLevels, PredictionType
from models.samplers.schedules.registry import Schedule
from models.samplers.spacing import (
    spaced_timesteps,
    stride,
    within_training,
)
from models.samplers.table import CLEAN


@dataclass(frozen=True)
class SigmaLevels:
    """Levels as sigmas.

    timesteps (steps,) for the network; sigmas (steps + 1,), decreasing, the last one 0.
    """

    timesteps: FloatArray
    sigmas: FloatArray


def sigma_levels(schedule: Schedule, steps: int, noise_schedule: NoiseLevels) -> SigmaLevels:
    """Return the levels of samplers in sigma space.

    Both ends of a spacing are visited, and timesteps may be fractions.
    """
    if schedule.grid:
        return _grid_levels(schedule.grid(noise_schedule, steps), noise_schedule)
    timesteps = spaced_timesteps(schedule.spacing, steps, noise_schedule)
    sigmas = noise_schedule.sigmas_at(timesteps)
    if schedule.curve:
        sigmas = schedule.curve(*noise_schedule.curve_ends(sigmas), steps)
        timesteps = noise_schedule.timesteps_at(sigmas)
    return SigmaLevels(within_training(timesteps, noise_schedule), np.append(sigmas, 0.0))


def multistep_levels(schedule: Schedule, steps: int, noise_schedule: NoiseLevels) -> SigmaLevels:
    """Return the levels of multistep solvers: whole timesteps without the clean end.

    One timestep more is spaced and the cleanest dropped, except for "trailing", which stops short
    of the clean end by itself. Curves span the whole noise schedule with every spacing. Of flows,
    the network gets the whole timestep below each level, as in diffusers.
    """
    if isinstance(noise_schedule, FlowSchedule):
        sigmas = schedule.flow_levels(noise_schedule, steps)
        timesteps = np.floor(noise_schedule.num_train_timesteps * sigmas)
        return SigmaLevels(timesteps, np.append(noise_schedule.ratios(sigmas), 0.0))
    if schedule.grid:
        return _grid_levels(schedule.grid(noise_schedule, steps), noise_schedule)
    if schedule.curve:
        trained = noise_schedule.sigmas
        sigmas = schedule.curve(trained[-1], trained[0], steps)
        timesteps = noise_schedule.trained_timesteps(noise_schedule.timesteps_at(sigmas))
    else:
        extra = 0 if schedule.spacing == "trailing" else 1
        timesteps = spaced_timesteps(schedule.spacing, steps + extra, noise_schedule)
        timesteps = timesteps[:steps].round()
        sigmas = noise_schedule.sigmas_at(timesteps)
    return SigmaLevels(within_training(timesteps, noise_schedule), np.append(sigmas, 0.0))


def _grid_levels(sigmas: FloatArray, noise_schedule: NoiseLevels) -> SigmaLevels:
    return SigmaLevels(noise_schedule.timesteps_at(sigmas), np.append(sigmas, 0.0))


@dataclass(frozen=True)
class ListedLevels:
    """Levels as a list.

    timesteps (steps,) for the network; levels (steps + 1), the last one clean.
    """

    timesteps: FloatArray
    levels: list[Level]


def listed_levels(schedule: Schedule, steps: int, noise_schedule: NoiseLevels) -> ListedLevels:
    """Return the levels of samplers that visit a list of timesteps, and then the clean end."""
    if schedule.in_sigmas:
        found = sigma_levels(schedule, steps, noise_schedule)
        return ListedLevels(found.timesteps, [noise_schedule.level(float(s)) for s in found.sigmas])
    timesteps = spaced_timesteps(schedule.spacing, steps, noise_schedule).round()
    timesteps = within_training(timesteps, noise_schedule)
    alphas = noise_schedule.alphas_cumprod[timesteps.astype(int)]
    levels = [Level(float(alpha) ** 0.5, (1.0 - float(alpha)) ** 0.5) for alpha in alphas]
    return ListedLevels(timesteps, [*levels, CLEAN])


@dataclass(frozen=True)
class StrideLevels:
    """Levels as positions in a table of alphas_cumprod.

    timesteps (steps,) for the network; positions (steps,) of the same levels in `alphas`. A step
    leads from position p to position p - stride, and to `final_alpha` below position 0.
    """

    timesteps: FloatArray
    positions: list[int]
    stride: int
    alphas: FloatArray
    final_alpha: float

    def alpha(self, position: int) -> float:
        """Return the share of the signal's variance at a position."""
        if position < 0:
            return self.final_alpha
        return float(self.alphas[min(position, len(self.alphas) - 1)])

    def level(self, position: int) -> Level:
        alpha = self.alpha(position)
        return Level(alpha**0.5, (1.0 - alpha) ** 0.5)


def stride_levels(
    schedule: Schedule, steps: int, noise_schedule: NoiseLevels, alpha_to_one: bool
) -> StrideLevels:
    """Return the levels of DDIM and PLMS.

    `alpha_to_one` is the sampler's own default for the final level. A step is T // steps timesteps
    long with every spacing, as in diffusers, so that after "linspace" and "trailing" steps x can be
    a few timesteps away from the timestep that the network gets. Levels chosen as sigmas are
    positions 0, 1, 2, ... of a small table of their own and end at sigma 0, as in the samplers made
    for them.
    """
    if schedule.in_sigmas:
        chosen = sigma_levels(schedule, steps, noise_schedule)
        alphas = 1.0 / (1.0 + chosen.sigmas[-2::-1] ** 2)
        return StrideLevels(chosen.timesteps, list(range(steps))[::-1], 1, alphas, 1.0)
    timesteps = spaced_timesteps(schedule.spacing, steps, noise_schedule).round()
    if noise_schedule.set_alpha_to_one is not None:
        alpha_to_one = noise_schedule.set_alpha_to_one
    return StrideLevels(
        timesteps=within_training(timesteps, noise_schedule),
        positions=[int(timestep) for timestep in timesteps],
        stride=stride(steps, noise_schedule),
        alphas=noise_schedule.alphas_cumprod,
        final_alpha=1.0 if alpha_to_one else float(noise_schedule.alphas_cumprod[0]),
    )


def predict_x0(before: Level, prediction_type: PredictionType) -> tuple[float, float]:
    """Return the weights on x and on the output that give x0, for x as the network gets it."""
    match prediction_type:
        case "v_prediction":
            return before.signal, -before.noise
        case "sample":
            return 0.0, 1.0
        case "epsilon":
            return 1.0 / before.signal, -before.noise / before.signal
        case "flow_prediction":
            return 1.0, -before.noise


def predict_noise(before: Level, prediction_type: PredictionType) -> tuple[float, float]:
    """Return the weights on x and on the output that give the unit noise in x, likewise."""
    match prediction_type:
        case "v_prediction":
            return before.noise, before.signal
        case "sample":
            return 1.0 / before.noise, -before.signal / before.noise
        case "epsilon":
            return 0.0, 1.0
        case "flow_prediction":
            return 1.0, before.signal


def transfer(before: Level, after: Level, prediction_type: PredictionType) -> tuple[float, float]:
    """Return the weights on x and on the output that take x from one level to another.

    Song et al. 2021, eq. 12 without its noise: x0 and the noise are computed from x and the output
    and mixed at the new level. The level before is as the network gets it, the level after may have
    less variance.
    """
    x0 = predict_x0(before, prediction_type)
    noise = predict_noise(before, prediction_type)
    keep_x, weight = (after.signal * s + after.noise * n for s, n in zip(x0, noise, strict=True))
    return keep_x, weight


def fresh_noise(before: Level, after: Level) -> float:
    """Return the noise of a step that samples the posterior: Ho et al. 2020, eq. 7.

    Song et al. 2021, eq. 16, with eta 1.
    """
    if not after.noise:
        return 0.0
    kept = before.signal / after.signal
    return after.noise / before.noise * max(1.0 - kept**2, 0.0) ** 0.5
