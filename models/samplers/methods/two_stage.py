"""Samplers that evaluate each step twice, in sigma space: Heun, DPM2 and DPM2 ancestral.

The second evaluation is made at a trial x, and the step is then taken from its start. A trial is
affine in x and can be undone, so the x at the start need not be kept. The last step, to sigma 0, is
Euler's: one evaluation.
"""

from models.samplers.methods.euler import euler_row
from models.samplers.plan import Plan
from models.samplers.sigma_space import (
    Split,
    Step,
    ancestral_split,
    derivative,
    deterministic_split,
    input_scale,
    steps_of,
    timestep_at,
)
from models.samplers.table import Row, SamplerTable


def heun(plan: Plan) -> SamplerTable:
    """Compile Karras et al. 2022, algorithm 1: the mean of the derivatives at both ends."""
    start, steps = steps_of(plan)
    rows = []
    for index, step in enumerate(steps):
        rows.append(euler_row(step, step.sigma_next, plan.prediction_type))
        if not step.last:
            h = step.sigma_next - step.sigma
            end = steps[index + 1]
            rows.append(_second(plan, step, end.timestep, end.sigma, (h / 2, h / 2 - h)))
    return SamplerTable.from_rows(start, rows)


def dpm2(plan: Plan) -> SamplerTable:
    """Compile Lu et al. 2022, "DPM-Solver", algorithm 1 in sigma space, as in k-diffusion."""
    return _midpoint(plan, deterministic_split)


def dpm2_ancestral(plan: Plan) -> SamplerTable:
    return _midpoint(plan, ancestral_split)


def _midpoint(plan: Plan, split: Split) -> SamplerTable:
    """Use the derivative in the middle of the step (of log sigma) for the whole step."""
    start, steps = steps_of(plan)
    rows = []
    for step in steps:
        down, up = split(step.sigma, step.sigma_next)
        if step.last:
            rows.append(euler_row(step, 0.0, plan.prediction_type))
            continue
        middle = (step.sigma * down) ** 0.5
        rows.append(euler_row(step, middle, plan.prediction_type))
        weights = (down - step.sigma, step.sigma - middle)
        timestep = timestep_at(middle, plan.noise_schedule)
        rows.append(_second(plan, step, timestep, middle, weights, noise=up))
    return SamplerTable.from_rows(start, rows)


def _second(
    plan: Plan,
    step: Step,
    timestep: float,
    sigma: float,
    weights: tuple[float, float],
    noise: float = 0.0,
) -> Row:
    """Return the row of the second evaluation.

    `weights`: on its derivative, and on the first one less the trial.
    """
    predict_x, predict_output = derivative(sigma, plan.prediction_type)
    return Row(
        timestep=timestep,
        input_scale=input_scale(sigma),
        predict_x=predict_x,
        predict_output=predict_output,
        keep_x=1.0,
        history=weights,
        noise=noise,
        known=step.known,
    )


SAMPLERS = (heun, dpm2, dpm2_ancestral)
