"""Euler and ancestral Euler steps in sigma space, where x = z0 + sigma * noise.

Karras et al. 2022, algorithm 1 without its correction; the ancestral form overshoots the next level
and adds fresh noise back, as in Song et al. 2021 (score-based SDEs), appendix F.
"""

from collections.abc import Callable

from models.samplers.levels import SigmaLevels, sigma_levels
from models.samplers.spacing import Schedule, rows_skipped
from models.samplers.table import Level, Row, SamplerTable
from models.schedule import NoiseSchedule, PredictionType

# (sigma, next sigma) -> (sigma that the step goes down to, weight of fresh noise added after it)
Split = Callable[[float, float], tuple[float, float]]


def euler(
    noise_schedule: NoiseSchedule, schedule: Schedule, steps: int, strength: float | None
) -> SamplerTable:
    return _compile(noise_schedule, schedule, steps, strength, _all_the_way)


def euler_ancestral(
    noise_schedule: NoiseSchedule, schedule: Schedule, steps: int, strength: float | None
) -> SamplerTable:
    return _compile(noise_schedule, schedule, steps, strength, _down_and_up)


def _all_the_way(sigma: float, sigma_next: float) -> tuple[float, float]:
    return sigma_next, 0.0


def _down_and_up(sigma: float, sigma_next: float) -> tuple[float, float]:
    up = sigma_next * (1.0 - (sigma_next / sigma) ** 2) ** 0.5
    down = sigma_next**2 / sigma  # sqrt(sigma_next^2 - up^2)
    return down, up


def _compile(
    noise_schedule: NoiseSchedule,
    schedule: Schedule,
    steps: int,
    strength: float | None,
    split: Split,
) -> SamplerTable:
    levels = sigma_levels(schedule, steps, noise_schedule)
    skipped = rows_skipped(steps, strength)
    rows = []
    for index in range(skipped, steps):
        sigma, sigma_next = float(levels.sigmas[index]), float(levels.sigmas[index + 1])
        down, up = split(sigma, sigma_next)
        predict_x, predict_output = _derivative(sigma, noise_schedule.prediction_type)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                input_scale=(sigma**2 + 1.0) ** -0.5,
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=1.0,
                history=(down - sigma,),
                noise=up,
                known=Level(1.0, sigma_next),
            )
        )
    if strength is None:
        return SamplerTable.from_rows(_pure_noise(levels, schedule), rows)
    return SamplerTable.from_rows(Level(1.0, float(levels.sigmas[skipped])), rows)


def _derivative(sigma: float, prediction_type: PredictionType) -> tuple[float, float]:
    """Weights on x and on the output that give dx/dsigma = (x - x0) / sigma, the noise in x."""
    if prediction_type == "v_prediction":
        return sigma / (sigma**2 + 1.0), (sigma**2 + 1.0) ** -0.5
    return 0.0, 1.0


def _pure_noise(levels: SigmaLevels, schedule: Schedule) -> Level:
    """diffusers' init_noise_sigma.

    The other two spacings start where nearly no signal is left; "leading" starts lower, and the
    noise stands in for signal too: what the network sees, input_scale * x, has variance 1.
    """
    sigma = float(levels.sigmas[0])
    return Level(0.0, (sigma**2 + 1.0) ** 0.5 if schedule.spacing == "leading" else sigma)
