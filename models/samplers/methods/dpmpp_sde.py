"""DPM-Solver++ for the SDE, multistep: 2M SDE and 3M SDE.

Lu et al. 2022, "DPM-Solver++", SDE-DPM-Solver++(2M) in its midpoint form; the third order is
k-diffusion's, by Crowson. h is the step in lambda = -log(sigma), and the SDE decays twice as fast.
"""

from math import exp, expm1, log

from models.samplers import log_snr
from models.samplers.levels import multistep_levels, predict_x0
from models.samplers.plan import Plan
from models.samplers.table import Row, SamplerTable


def dpmpp_2m_sde(plan: Plan) -> SamplerTable:
    return _compile(plan, order=2)


def dpmpp_3m_sde(plan: Plan) -> SamplerTable:
    return _compile(plan, order=3)


def _compile(plan: Plan, order: int) -> SamplerTable:
    levels = multistep_levels(plan.schedule, plan.steps, plan.noise_schedule)
    sigmas = [float(sigma) for sigma in levels.sigmas]
    rows = []
    for index in range(plan.skipped, plan.steps):
        before, after = (plan.noise_schedule.level(s) for s in sigmas[index : index + 2])
        keep_x, noise = 0.0, 0.0
        history: tuple[float, ...] = (1.0,)
        if sigmas[index + 1]:
            h = log(sigmas[index] / sigmas[index + 1])
            past = _steps_before(sigmas, index, plan.skipped, order)
            weights = _second_order(h, *past) if order == 2 else _third_order(h, past)
            keep_x = after.noise / before.noise * exp(-h)
            history = tuple(after.signal * weight for weight in weights)
            noise = after.noise * (-expm1(-2 * h)) ** 0.5
        predict_x, predict_output = predict_x0(before, plan.prediction_type)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=keep_x,
                history=history,
                noise=noise,
                known=after,
            )
        )
    return SamplerTable.from_rows(log_snr.start(levels, plan), rows)


def _steps_before(sigmas: list[float], index: int, first: int, order: int) -> list[float]:
    """Return the lengths of the steps before, latest first: as many as the order can use.

    With about as many steps as trained timesteps some have length 0; they and those before them are
    left out.
    """
    lengths: list[float] = []
    for place in range(index, max(first, index - order + 1), -1):
        if sigmas[place - 1] == sigmas[place]:
            break
        lengths.append(log(sigmas[place - 1] / sigmas[place]))
    return lengths


def _second_order(h: float, before: float | None = None) -> tuple[float, ...]:
    """Return weights on the x0s predicted now and before: their line in the middle of the step."""
    gain = -expm1(-2 * h)
    if before is None:
        return (gain,)
    slope = 0.5 * gain * h / before
    return gain + slope, -slope


def _third_order(h: float, past: list[float]) -> tuple[float, ...]:
    """Return weights on the x0s predicted now, before and twice before.

    They integrate the parabola through the three.
    """
    gain = -expm1(-2 * h)
    if not past or not h:
        return (gain,)
    phi_2 = 1.0 - gain / (2 * h)
    slope = phi_2 * h / past[0]
    if len(past) == 1:
        return gain + slope, -slope
    phi_3 = phi_2 / (2 * h) - 0.5
    # First and second derivative at this level, of the parabola through three points.
    latest, earlier = h / past[0], h / past[1]
    over = phi_2 * past[0] / (past[0] + past[1]) - phi_3 * h / (past[0] + past[1])
    return (
        gain + (phi_2 + over) * latest,
        -(phi_2 + over) * latest - over * earlier,
        over * earlier,
    )


SAMPLERS = (dpmpp_2m_sde, dpmpp_3m_sde)
