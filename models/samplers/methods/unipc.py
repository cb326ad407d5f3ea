"""UniPC: Zhao et al. 2023, "UniPC", order 2, B(h) = exp(h) - 1, predicting x0.

Every evaluation is used twice: it corrects the step before it (UniC), then predicts the next
(UniP). diffusers keeps both the corrected and the predicted x. Here the corrected one is
eliminated: predictor and corrector start from the same x with the same weight, so their difference
is in the history.
"""

from math import expm1, log

from models.samplers import log_snr
from models.samplers.levels import multistep_levels, predict_x0
from models.samplers.noise_schedule import FloatArray
from models.samplers.plan import Plan
from models.samplers.table import Row, SamplerTable


def unipc(plan: Plan) -> SamplerTable:
    levels = multistep_levels(plan.schedule, plan.steps, plan.noise_schedule)
    rows = []
    for index in range(plan.skipped, plan.steps):
        sigma, sigma_next = float(levels.sigmas[index]), float(levels.sigmas[index + 1])
        before, after = (plan.noise_schedule.level(s) for s in (sigma, sigma_next))
        predict_x, predict_output = predict_x0(before, plan.prediction_type)
        keep_x = log_snr.keep(before, after)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=keep_x,
                history=_history(levels.sigmas, index, plan, keep_x),
                known=after,
            )
        )
    return SamplerTable.from_rows(log_snr.start(levels, plan), rows)


def _history(sigmas: FloatArray, index: int, plan: Plan, keep_x: float) -> tuple[float, ...]:
    """Return keep_x * (the corrector's addition to x) + the predictor's addition after it."""
    correction = _correction(sigmas, index, plan)
    sigma, sigma_next = float(sigmas[index]), float(sigmas[index + 1])
    gain = log_snr.gain(sigma, sigma_next, plan.noise_schedule.level(sigma_next))
    prediction = (*_combination(sigmas, index, plan.skipped), 0.0, 0.0)
    return tuple(
        keep_x * corrected + gain * predicted
        for corrected, predicted in zip(correction, prediction, strict=False)
    )


def _is_second_order(sigmas: FloatArray, index: int, first: int) -> bool:
    """Return False for the first step, the last, and one after a step of length 0."""
    last = index == len(sigmas) - 2
    return index > first and not last and bool(sigmas[index - 1] > sigmas[index])


def _combination(sigmas: FloatArray, index: int, first: int) -> tuple[float, float]:
    """Return the predictor's weights on the x0s predicted now and before."""
    if not _is_second_order(sigmas, index, first):
        return 1.0, 0.0
    return log_snr.extrapolation(*(float(sigma) for sigma in sigmas[index - 1 : index + 2]))


def _correction(sigmas: FloatArray, index: int, plan: Plan) -> tuple[float, float, float]:
    """Return corrected x minus predicted x, in the x0s predicted now and twice before.

    Of the order of the step before. Both are the same integral of x0 over that step: the
    predictor's from the x0s known at its start, the corrector's also from this row's.
    """
    if index == plan.skipped or sigmas[index - 1] == sigmas[index]:
        return 0.0, 0.0, 0.0
    before, sigma = float(sigmas[index - 1]), float(sigmas[index])
    gain = log_snr.gain(before, sigma, plan.noise_schedule.level(sigma))
    if not _is_second_order(sigmas, index - 1, plan.skipped):
        return gain / 2, -gain / 2, 0.0
    h = log(before / sigma)
    r = -log(float(sigmas[index - 2]) / before) / h  # position of the x0 before in steps, negative
    b_1, b_2 = _moments(h)
    # Weights that fit the first two moments at positions r and 1: Zhao et al. 2023, theorem 3.1.
    rho_before = (b_1 - b_2) / (1.0 - r)
    rho_now = b_1 - rho_before
    slope = (rho_before - 0.5) / r  # the predictor's own weight on the slope is 1/2
    return gain * rho_now, -gain * (rho_now + slope), gain * slope


def _moments(h: float) -> tuple[float, float]:
    """Return the first two moments of the integrator over a step h, divided by B(h).

    B(h) = exp(-h) - 1.
    """
    b = expm1(-h)
    phi_1 = b / -h - 1.0
    phi_2 = phi_1 / -h - 0.5
    return phi_1 / b, 2.0 * phi_2 / b


SAMPLERS = (unipc,)
