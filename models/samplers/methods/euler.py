"""Euler and ancestral Euler steps in sigma space.

Karras et al. 2022, algorithm 1 without its correction; the ancestral form overshoots the next level
and adds fresh noise back.
"""

from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import Level, PredictionType
from models.samplers.plan import Plan
from models.samplers.sigma_space import (
    Split,
    Step,
    ancestral_split,
    derivative,
    deterministic_split,
    input_scale,
    steps_of,
)
from models.samplers.table import PURE_NOISE, Row, SamplerTable


def euler(plan: Plan) -> SamplerTable:
    if isinstance(plan.noise_schedule, FlowSchedule):
        return _along_flow(plan, plan.noise_schedule)
    return _compile(plan, deterministic_split)


def _along_flow(plan: Plan, flow: FlowSchedule) -> SamplerTable:
    """Compile steps along the predicted flow: Liu et al. 2022, "Flow Straight and Fast", eq. 1."""
    shares = [*plan.schedule.flow_levels(flow, plan.steps).tolist(), 0.0]
    levels = [Level(1.0 - share, share) for share in shares]
    rows = [
        Row(
            timestep=flow.num_train_timesteps * shares[index],
            keep_x=1.0,
            history=(shares[index + 1] - shares[index],),
            known=levels[index + 1],
        )
        for index in range(plan.skipped, plan.steps)
    ]
    start = PURE_NOISE if plan.strength is None else levels[plan.skipped]
    return SamplerTable.from_rows(start, rows)


def euler_ancestral(plan: Plan) -> SamplerTable:
    return _compile(plan, ancestral_split)


def _compile(plan: Plan, split: Split) -> SamplerTable:
    start, steps = steps_of(plan)
    rows = []
    for step in steps:
        down, up = split(step.sigma, step.sigma_next)
        rows.append(euler_row(step, down, plan.prediction_type, noise=up))
    return SamplerTable.from_rows(start, rows)


def euler_row(step: Step, down: float, prediction_type: PredictionType, noise: float = 0.0) -> Row:
    """Return a row along the derivative at x from the step's sigma down to another."""
    predict_x, predict_output = derivative(step.sigma, prediction_type)
    return Row(
        timestep=step.timestep,
        input_scale=input_scale(step.sigma),
        predict_x=predict_x,
        predict_output=predict_output,
        keep_x=1.0,
        history=(down - step.sigma,),
        noise=noise,
        known=step.known,
    )


SAMPLERS = (euler, euler_ancestral)
