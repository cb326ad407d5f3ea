"""DEIS: Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator".

The log-rho form of order 2: the noise in x is taken to be a line in log sigma through its last two
predictions. It ends at the cleanest level that the network was trained on, not at 0, as diffusers'.
"""

from math import log

import numpy as np

from models.samplers.levels import level, multistep_levels, predict_noise
from models.samplers.methods import exponential
from models.samplers.noise_schedule import FloatArray
from models.samplers.plan import Plan
from models.samplers.table import CLEAN, Row, SamplerTable

# With fewer steps than these the last one is of first order, as in diffusers.
_FEW_STEPS = 15


def deis(plan: Plan) -> SamplerTable:
    levels = multistep_levels(plan.schedule, plan.steps, plan.noise_schedule)
    sigmas = np.append(levels.sigmas[:-1], plan.noise_schedule.sigmas[0])
    rows = []
    for index in range(plan.skipped, plan.steps):
        before, after = level(float(sigmas[index])), level(float(sigmas[index + 1]))
        predict_x, predict_output = predict_noise(before, plan.prediction_type)
        rows.append(
            Row(
                timestep=levels.timesteps[index],
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=after.signal / before.signal,
                history=tuple(after.signal * share for share in _integrals(sigmas, index, plan)),
                known=CLEAN if index == plan.steps - 1 else after,
            )
        )
    return SamplerTable.from_rows(exponential.start(levels, plan), rows)


def _integrals(sigmas: FloatArray, index: int, plan: Plan) -> tuple[float, ...]:
    """Of the line through the predictions at this level and the one before, over the step."""
    sigma, sigma_next = float(sigmas[index]), float(sigmas[index + 1])
    lower_order = index == plan.steps - 1 and plan.steps < _FEW_STEPS
    if index == plan.skipped or lower_order or sigmas[index - 1] == sigma:
        return (sigma_next - sigma,)
    before = float(sigmas[index - 1])
    return (
        _integral(sigma_next, sigma, before) - _integral(sigma, sigma, before),
        _integral(sigma_next, before, sigma) - _integral(sigma, before, sigma),
    )


def _integral(sigma: float, one: float, zero: float) -> float:
    """Antiderivative of what is 1 at sigma `one`, 0 at `zero`, and linear in log sigma."""
    return sigma * (log(sigma) - log(zero) - 1.0) / (log(one) - log(zero))
