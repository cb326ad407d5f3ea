"""DPM-Solver++ with two evaluations a step, in sigma space: 2S ancestral and SDE.

Lu et al. 2022, "DPM-Solver++", algorithm 1 with r = 1/2, as in k-diffusion: x0 is predicted
half-way (of log sigma), and that prediction is used for the whole step from its start. The last
step, to sigma 0, ends at the predicted x0.
"""

from models.samplers.plan import Plan
from models.samplers.sigma_space import (
    Step,
    ancestral_split,
    denoised,
    input_scale,
    steps_of,
    timestep_at,
)
from models.samplers.table import Row, SamplerTable


def dpmpp_2s_ancestral(plan: Plan) -> SamplerTable:
    start, steps = steps_of(plan)
    rows = []
    for step in steps:
        if step.last:
            rows.append(_stage(plan, step, step.sigma, 0.0, (1.0,)))
            continue
        down, up = ancestral_split(step.sigma, step.sigma_next)
        middle = (step.sigma * down) ** 0.5
        half, whole = middle / step.sigma, down / step.sigma
        rows.append(_stage(plan, step, step.sigma, half, (1 - half,)))
        keep_x = whole / half
        weights = (1 - whole, -keep_x * (1 - half))
        rows.append(_stage(plan, step, middle, keep_x, weights, noise=up))
    return SamplerTable.from_rows(start, rows)


def dpmpp_sde(plan: Plan) -> SamplerTable:
    """Compile the SDE solver; both halves take noise from one Brownian path.

    The noise of the second contains that of the first.
    """
    start, steps = steps_of(plan)
    rows = []
    for step in steps:
        if step.last:
            rows.append(_stage(plan, step, step.sigma, 0.0, (1.0,)))
            continue
        middle = (step.sigma * step.sigma_next) ** 0.5
        half_down, half_up = ancestral_split(step.sigma, middle)
        down, up = ancestral_split(step.sigma, step.sigma_next)
        half, whole = half_down / step.sigma, down / step.sigma
        rows.append(_stage(plan, step, step.sigma, half, (1 - half,), noise=half_up))
        keep_x = whole / half
        common = _correlation(step, middle)
        fresh = up * (1 - common**2) ** 0.5
        carried = (up * common - keep_x * half_up) / fresh if fresh else 0.0
        weights = (1 - whole, -keep_x * (1 - half))
        rows.append(_stage(plan, step, middle, keep_x, weights, noise=fresh, carried_noise=carried))
    return SamplerTable.from_rows(start, rows)


def _correlation(step: Step, middle: float) -> float:
    """Return the correlation of a Brownian path at the middle of a step and at its end.

    Its time is sigma.
    """
    if step.sigma == step.sigma_next:
        return 1.0
    return ((step.sigma - middle) / (step.sigma - step.sigma_next)) ** 0.5


def _stage(
    plan: Plan,
    step: Step,
    sigma: float,
    keep_x: float,
    weights: tuple[float, ...],
    noise: float = 0.0,
    carried_noise: float = 0.0,
) -> Row:
    """Return the row of one evaluation, at the step's own sigma or in its middle."""
    first = sigma == step.sigma
    predict_x, predict_output = denoised(sigma, plan.prediction_type)
    return Row(
        timestep=step.timestep if first else timestep_at(sigma, plan.noise_schedule),
        input_scale=input_scale(sigma),
        predict_x=predict_x,
        predict_output=predict_output,
        keep_x=keep_x,
        history=weights,
        noise=noise,
        carried_noise=carried_noise,
        known=step.known,
    )


SAMPLERS = (dpmpp_2s_ancestral, dpmpp_sde)
