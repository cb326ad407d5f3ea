"""The samplers of k-diffusion, against k-diffusion: x at every evaluation, noise injected.

diffusers has no DPM++ 2S ancestral; in its third order of the DPM-Solver++ SDE one sign is opposite
to k-diffusion's (and to the derivation); its LMS is wrong after a strength.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models.samplers import compile_table
from models.samplers.noise_schedule import FloatArray, NoiseSchedule
from tests.models.samplers import references
from tests.models.samplers.k_oracle import SAMPLERS, UNIT_VARIANCE, k_walk
from tests.models.samplers.oracle import error, fresh_noise
from tests.models.samplers.toy import SDXL, VELOCITY, X0, toy_network, unit_noise, walk

NETWORK, Z0, NOISE = toy_network(), unit_noise(1), unit_noise(2)
MASK = (unit_noise(3) > 0).astype(np.float64)
TOLERANCE = 1e-5
SCHEDULES = ("karras", "normal", "align-your-steps-xl")
CASES = [
    (sampler, schedule)
    for sampler in SAMPLERS
    for schedule in SCHEDULES
    # Those get whole timesteps of Karras's levels, as in diffusers: see the other file.
    if sampler not in UNIT_VARIANCE or schedule != "karras"
]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Inpainted:
    """x with the known image, at the level of x, where the mask is 0."""

    mask: FloatArray

    def __call__(self, x: FloatArray, sigma: float) -> FloatArray:
        return np.where(self.mask, x, Z0 + sigma * NOISE)


def largest_error(
    sampler: str,
    schedule: str,
    config: dict[str, Any],
    steps: int,
    strength: float | None,
    mask: FloatArray | None = None,
) -> float:
    noise_schedule = NoiseSchedule.from_config(config)
    table = compile_table(sampler, schedule, steps, noise_schedule, strength)
    sigmas = np.append(references.levels(schedule, steps, config), 0.0)
    if strength is None:
        unit = (sigmas[0] ** 2 + 1) ** 0.5
        x = NOISE * (unit if sampler in UNIT_VARIANCE else sigmas[0])
    else:
        sigmas = sigmas[steps - int(steps * strength) :]
        x = Z0 + sigmas[0] * NOISE
    known = None if mask is None else Inpainted(mask)
    theirs = list(k_walk(sampler, NETWORK, x, sigmas, config, known))
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise, mask))
    assert len(ours) == len(theirs)
    return max(error(mine, reference) for mine, reference in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("config", [SDXL, VELOCITY, X0], ids=["epsilon", "v", "x0"])
@pytest.mark.parametrize(("sampler", "schedule"), CASES)
def test_every_evaluation_is_that_of_k_diffusion(
    sampler: str, schedule: str, config: dict[str, Any]
) -> None:
    errors = {
        (steps, strength): largest_error(sampler, schedule, config, steps, strength)
        for steps in (1, 2, 3, 12)
        for strength in (None, 0.6)
        # k-diffusion's multistep SDE samplers fail with a single step.
        if int(steps * (strength or 1)) >= (2 if sampler.endswith("m_sde") else 1)
    }
    assert {case: e for case, e in errors.items() if not e <= TOLERANCE} == {}


@pytest.mark.parametrize("schedule", ["karras", "ddim", "align-your-steps-xl"])
@pytest.mark.parametrize("sampler", ["lms", "euler"])
def test_inpainting_begun_in_the_middle(sampler: str, schedule: str) -> None:
    """Euler, which the other file compares too, shows that a mask has the same meaning in both."""
    assert largest_error(sampler, schedule, SDXL, 10, 0.7, MASK) <= TOLERANCE
