"""DPM-Solver++ 2M: Lu et al. 2022, "DPM-Solver++", algorithm 2, midpoint form."""

from models.samplers import exponential
from models.samplers.levels import multistep_levels
from models.samplers.spacing import Schedule, rows_skipped
from models.samplers.table import Row, SamplerTable
from models.schedule import FloatArray, NoiseSchedule


def dpmpp_2m(
    noise_schedule: NoiseSchedule, schedule: Schedule, steps: int, strength: float | None
) -> SamplerTable:
    levels = multistep_levels(schedule, steps, noise_schedule)
    skipped = rows_skipped(steps, strength)
    rows = []
    for index in range(skipped, steps):
        sigma, sigma_next = float(levels.sigmas[index]), float(levels.sigmas[index + 1])
        predict_x, predict_output = exponential.predict_x0(sigma, noise_schedule.prediction_type)
        gain = exponential.gain(sigma, sigma_next)
        combination = _combination(levels.sigmas, index, first=skipped)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=exponential.keep(sigma, sigma_next),
                history=tuple(gain * share for share in combination),
                known=exponential.level(sigma_next),
            )
        )
    return SamplerTable.from_rows(exponential.start(levels, steps, strength), rows)


def _combination(sigmas: FloatArray, index: int, first: int) -> tuple[float, ...]:
    """Weights on the predicted x0s: of first order in the first step and in the last, to sigma 0.

    With about as many steps as trained timesteps two levels can be the same, and nothing can be
    extrapolated from one point: first order there too, where diffusers divides by 0.
    """
    if index == first or index == len(sigmas) - 2 or sigmas[index - 1] == sigmas[index]:
        return (1.0,)
    return exponential.extrapolation(*(float(sigma) for sigma in sigmas[index - 1 : index + 2]))
