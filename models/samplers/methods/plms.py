"""PLMS: Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models", without Runge-Kutta.

The first step is Heun's instead: it is taken twice, the second time with the mean of both ends'
outputs, so there is one row more than steps.
"""

from models.samplers.levels import stride_levels, transfer
from models.samplers.plan import Plan
from models.samplers.table import CLEAN, PURE_NOISE, Row, SamplerTable

# Adams-Bashforth weights of rows 2, 3, 4 and all later ones. Row 1's output, the far end of the
# doubled step, is in the history but is none of the method's points: its weight is 0.
_ADAMS_BASHFORTH = (
    (3 / 2, 0.0, -1 / 2),
    (23 / 12, -16 / 12, 0.0, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, 0.0, -9 / 24),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def plms(plan: Plan) -> SamplerTable:
    """Compile PLMS as in diffusers, so that a request gives the same image there.

    Outputs are combined as they are and only then read as noise, v or x0, though the meaning of v
    changes with the level: with v_prediction and few steps another sampler is better. With a
    strength, the doubled step is rows 0 and 1 of the remaining ones, though the list of timesteps
    was doubled at its own second position: x then stays one level noisier than the network's
    timestep.
    """
    levels = stride_levels(plan.schedule, plan.steps, plan.noise_schedule, alpha_to_one=False)
    doubled = [*range(min(plan.steps, 2)), *range(1, plan.steps)]
    indices = doubled[plan.skipped :]
    positions = [levels.positions[index] for index in indices]
    known = [levels.level(position) for position in positions[1:]] + [CLEAN]
    steps_taken = [(position, position - levels.stride) for position in positions]
    # The second half of the doubled step ends where it is evaluated.
    steps_taken[1:2] = [(position + levels.stride, position) for position in positions[1:2]]
    transfers = [
        transfer(levels.level(before), levels.level(after), plan.prediction_type)
        for before, after in steps_taken
    ]
    rows = []
    for row, index in enumerate(indices):
        keep_x, history = _update(row, transfers)
        rows.append(Row(levels.timesteps[index], keep_x, history, known[row]))
    start = PURE_NOISE if plan.strength is None else levels.level(positions[0])
    return SamplerTable.from_rows(start, rows)


def _update(row: int, transfers: list[tuple[float, float]]) -> tuple[float, tuple[float, ...]]:
    """Return weights on x and on the history, from each row's weights on x and on one output."""
    keep_x, weight = transfers[row]
    if row == 0:
        return keep_x, (weight,)
    if row == 1:
        # It starts from the x before row 0, which is (x - undo_weight * d_-1) / undo_x.
        undo_x, undo_weight = transfers[0]
        keep_x /= undo_x
        return keep_x, (weight / 2, weight / 2 - keep_x * undo_weight)
    combination = _ADAMS_BASHFORTH[min(row, 5) - 2]
    return keep_x, tuple(weight * share for share in combination)


SAMPLERS = (plms,)
