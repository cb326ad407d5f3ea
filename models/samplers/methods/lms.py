"""Linear multistep in sigma space: Adams-Bashforth of order 4 on uneven levels (k-diffusion's LMS).

The derivative is the polynomial through the last four, integrated over the step.
"""

import numpy as np

from models.samplers.plan import Plan
from models.samplers.sigma_space import derivative, input_scale, steps_of
from models.samplers.table import Row, SamplerTable

_ORDER = 4
# Two points integrate polynomials up to degree 3 exactly (Gauss-Legendre).
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(2)


def lms(plan: Plan) -> SamplerTable:
    start, steps = steps_of(plan)
    rows = []
    for index, step in enumerate(steps):
        latest = [past.sigma for past in steps[max(index - _ORDER + 1, 0) : index + 1]][::-1]
        predict_x, predict_output = derivative(step.sigma, plan.prediction_type)
        rows.append(
            Row(
                timestep=step.timestep,
                input_scale=input_scale(step.sigma),
                predict_x=predict_x,
                predict_output=predict_output,
                keep_x=1.0,
                history=_integrals(_distinct(latest), step.sigma_next),
                known=step.known,
            )
        )
    return SamplerTable.from_rows(start, rows)


def _distinct(sigmas: list[float]) -> list[float]:
    """Return the sigmas up to the first repetition.

    Levels can repeat with about as many steps as trained timesteps.
    """
    same = (i for i in range(1, len(sigmas)) if sigmas[i] == sigmas[i - 1])
    return sigmas[: next(same, len(sigmas))]


def _integrals(sigmas: list[float], sigma_next: float) -> tuple[float, ...]:
    """Integrate the Lagrange polynomials at `sigmas`, newest first, from the first to the next."""
    half = (sigma_next - sigmas[0]) / 2
    places = sigmas[0] + half * (1 + _PLACES)
    integrals = []
    for now, at in enumerate(sigmas):
        others = [other for i, other in enumerate(sigmas) if i != now]
        values = np.prod([(places - other) / (at - other) for other in others], axis=0)
        integrals.append(float(half * np.sum(_WEIGHTS * values)))
    return tuple(integrals)


SAMPLERS = (lms,)
