"""DDIM: Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12."""

from models.samplers.levels import fresh_noise, stride_levels, transfer
from models.samplers.noise_schedule import Level
from models.samplers.plan import Plan
from models.samplers.table import CLEAN, PURE_NOISE, Row, SamplerTable


def ddim(plan: Plan) -> SamplerTable:
    levels = stride_levels(plan.schedule, plan.steps, plan.noise_schedule, alpha_to_one=True)
    positions = levels.positions[plan.skipped :]
    # The known region is at the level of the next evaluation's timestep.
    known = [levels.level(position) for position in positions[1:]] + [CLEAN]
    rows = []
    for row, position in enumerate(positions):
        before, after = levels.level(position), levels.level(position - levels.stride)
        fresh = plan.eta * fresh_noise(before, after)
        kept = Level(after.signal, (after.noise**2 - fresh**2) ** 0.5) if fresh else after
        keep_x, weight = transfer(before, kept, plan.prediction_type)
        timestep = levels.timesteps[plan.skipped + row]
        rows.append(Row(timestep, keep_x, (weight,), known[row], noise=fresh))
    start = PURE_NOISE if plan.strength is None else levels.level(positions[0])
    return SamplerTable.from_rows(start, rows)


SAMPLERS = (ddim,)
