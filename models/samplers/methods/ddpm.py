"""DDPM: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", algorithm 2.

Steps may be longer than in training; the added noise is that of the posterior (eq. 7, the smaller
of the two variances of section 3.2).
"""

from models.samplers.levels import fresh_noise, listed_levels, transfer
from models.samplers.noise_schedule import Level
from models.samplers.plan import Plan
from models.samplers.table import PURE_NOISE, Row, SamplerTable


def ddpm(plan: Plan) -> SamplerTable:
    listed = listed_levels(plan.schedule, plan.steps, plan.noise_schedule)
    rows = []
    for index in range(plan.skipped, plan.steps):
        before, after = listed.levels[index : index + 2]
        fresh = fresh_noise(before, after)
        kept = Level(after.signal, (after.noise**2 - fresh**2) ** 0.5)
        keep_x, weight = transfer(before, kept, plan.prediction_type)
        rows.append(Row(listed.timesteps[index], keep_x, (weight,), after, noise=fresh))
    start = PURE_NOISE if plan.strength is None else listed.levels[plan.skipped]
    return SamplerTable.from_rows(start, rows)


SAMPLERS = (ddpm,)
