"""Samplers of consistency models, which predict x0 from any level and go back to a lower one.

LCM: Luo et al. 2023, "Latent Consistency Models", algorithm 3. TCD: Zheng et al. 2024, "Trajectory
Consistency Distillation", algorithm 3. For models distilled so, or with an adapter that does the
same; one to eight steps, with their own schedule "lcm".
"""

import numpy as np

from models.samplers.levels import listed_levels, predict_x0, transfer
from models.samplers.noise_schedule import Level
from models.samplers.plan import Plan
from models.samplers.table import PURE_NOISE, Row, SamplerTable

# The boundary condition: Luo et al. 2023, appendix (sigma_data), and its factor of timesteps.
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0

# Zheng et al. 2024, section 3.4: gamma, the share of a step that is noised again. Their default.
_GAMMA = 0.3


def lcm(plan: Plan) -> SamplerTable:
    """Predict x0 at every step and add noise up to the next level."""
    listed = listed_levels(plan.schedule, plan.steps, plan.noise_schedule)
    rows = []
    for index in range(plan.skipped, plan.steps):
        timestep, after = float(listed.timesteps[index]), listed.levels[index + 1]
        of_x, of_x0 = _boundary(timestep)
        predict_x, predict_output = predict_x0(listed.levels[index], plan.prediction_type)
        rows.append(
            Row(
                timestep=timestep,
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=after.signal * of_x,
                history=(after.signal * of_x0,),
                noise=after.noise,
                known=after,
            )
        )
    start = PURE_NOISE if plan.strength is None else listed.levels[plan.skipped]
    return SamplerTable.from_rows(start, rows)


def _boundary(timestep: float) -> tuple[float, float]:
    """Return the weights on x and on the predicted x0: at timestep 0 x is the result already."""
    scaled, data = timestep * TIMESTEP_SCALING, SIGMA_DATA
    return data**2 / (scaled**2 + data**2), scaled / (scaled**2 + data**2) ** 0.5


def _kept_share(timestep: float) -> int:
    """Return the whole timestep below the kept share of a timestep.

    In float32 as in diffusers, where 0.7 * 950 is 665, not less.
    """
    return int(np.float32(1.0 - _GAMMA) * np.float32(timestep))


def tcd(plan: Plan) -> SamplerTable:
    """Go deterministically below the next level, and back up to it with fresh noise."""
    listed = listed_levels(plan.schedule, plan.steps, plan.noise_schedule)
    alphas = plan.noise_schedule.alphas_cumprod
    reached = [*listed.timesteps[1:], 0.0]
    rows = []
    for index in range(plan.skipped, plan.steps):
        after = listed.levels[index + 1]
        alpha = float(alphas[_kept_share(reached[index])])
        below = Level(alpha**0.5, (1.0 - alpha) ** 0.5)
        last = index == plan.steps - 1
        raised = 1.0 if last else after.signal / below.signal
        keep_x, weight = transfer(listed.levels[index], below, plan.prediction_type)
        rows.append(
            Row(
                timestep=listed.timesteps[index],
                keep_x=raised * keep_x,
                history=(raised * weight,),
                noise=max(1.0 - raised**2, 0.0) ** 0.5,
                known=after,
            )
        )
    start = PURE_NOISE if plan.strength is None else listed.levels[plan.skipped]
    return SamplerTable.from_rows(start, rows)


SAMPLERS = (lcm, tcd)
