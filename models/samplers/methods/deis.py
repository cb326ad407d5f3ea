"""DEIS: Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator".

The log-rho form of order 2: the noise in x is approximated by a line in log sigma through its last
two predictions. As in diffusers it ends at the cleanest trained level, not at 0.
"""

from math import log

import numpy as np

from models.samplers import log_snr
from models.samplers.levels import multistep_levels, predict_noise
from models.samplers.noise_schedule import FloatArray
from models.samplers.plan import Plan
from models.samplers.table import CLEAN, Row, SamplerTable

# With fewer steps the last one is of first order, as in diffusers.
_FEW_STEPS = 15


def deis(plan: Plan) -> SamplerTable:
    levels = multistep_levels(plan.schedule, plan.steps, plan.noise_schedule)
    sigmas = np.append(levels.sigmas[:-1], plan.noise_schedule.sigmas[0])
    rows = []
    for index in range(plan.skipped, plan.steps):
        before, after = (plan.noise_schedule.level(float(s)) for s in sigmas[index : index + 2])
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
    return SamplerTable.from_rows(log_snr.start(levels, plan), rows)


def _integrals(sigmas: FloatArray, index: int, plan: Plan) -> tuple[float, ...]:
    """Return the integrals over the step of the line through the predictions now and before."""
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
    """Return the antiderivative of a function linear in log sigma, 1 at `one` and 0 at `zero`."""
    return sigma * (log(sigma) - log(zero) - 1.0) / (log(one) - log(zero))


SAMPLERS = (deis,)
