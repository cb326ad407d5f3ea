"""DPM-Solver++ 2M: Lu et al. 2022, "DPM-Solver++", algorithm 2, midpoint form."""

from models.samplers import log_snr
from models.samplers.levels import multistep_levels, predict_x0
from models.samplers.noise_schedule import FloatArray
from models.samplers.plan import Plan
from models.samplers.table import Row, SamplerTable


def dpmpp_2m(plan: Plan) -> SamplerTable:
    levels = multistep_levels(plan.schedule, plan.steps, plan.noise_schedule)
    rows = []
    for index in range(plan.skipped, plan.steps):
        sigma, sigma_next = float(levels.sigmas[index]), float(levels.sigmas[index + 1])
        before, after = (plan.noise_schedule.level(s) for s in (sigma, sigma_next))
        predict_x, predict_output = predict_x0(before, plan.prediction_type)
        gain = log_snr.gain(sigma, sigma_next, after)
        combination = _combination(levels.sigmas, index, first=plan.skipped)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=log_snr.keep(before, after),
                history=tuple(gain * share for share in combination),
                known=after,
            )
        )
    return SamplerTable.from_rows(log_snr.start(levels, plan), rows)


def _combination(sigmas: FloatArray, index: int, first: int) -> tuple[float, ...]:
    """Return weights on the predicted x0s, of first order in the first step and in the last.

    With about as many steps as trained timesteps two levels can be the same, and one point cannot
    be extrapolated: first order there too, where diffusers divides by 0.
    """
    if index == first or index == len(sigmas) - 2 or sigmas[index - 1] == sigmas[index]:
        return (1.0,)
    return log_snr.extrapolation(*(float(sigma) for sigma in sigmas[index - 1 : index + 2]))


SAMPLERS = (dpmpp_2m,)
