"""The noise levels of every schedule, against where they are published."""

import numpy as np
import pytest
import scipy.stats
from diffusers.schedulers.scheduling_utils import AysSchedules

from models.samplers import SCHEDULES, compile_table
from models.samplers.noise_schedule import FloatArray, NoiseSchedule
from models.samplers.schedules.curves import beta, exponential
from tests.models.samplers import references
from tests.models.samplers.toy import SD15, VELOCITY

EPSILON = NoiseSchedule.from_config(SD15)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def visited(schedule: str, steps: int, noise_schedule: NoiseSchedule) -> tuple[FloatArray, ...]:
    """Return (sigmas, timesteps) of Euler's evaluations."""
    table = compile_table("euler", schedule, steps, noise_schedule, 1.0)
    return np.array([table.start_noise, *table.known_noise[:-1]]), table.timestep


def test_all_schedules_are_compared() -> None:
    assert {*references.SPACINGS, *references.CURVES, *references.GRIDS} == set(SCHEDULES)


@pytest.mark.parametrize("config", [SD15, VELOCITY], ids=["sd15", "no offset"])
@pytest.mark.parametrize("schedule", [*references.CURVES, *references.GRIDS])
def test_levels_are_the_published_ones(schedule: str, config: dict[str, object]) -> None:
    for steps in (1, 2, 7, 10, 30, 50):
        sigmas, timesteps = visited(schedule, steps, NoiseSchedule.from_config(config))
        expected = references.levels(schedule, steps, config)
        assert sigmas == pytest.approx(expected, rel=5e-6)
        assert timesteps == pytest.approx(references.timesteps_at(expected, config), abs=2e-3)


def test_ten_aligned_steps_are_nearly_the_published_timesteps() -> None:
    """NVIDIA publishes both; the levels are rounded to three decimals."""
    for name, published in (
        ("align-your-steps", "StableDiffusionTimesteps"),
        ("align-your-steps-xl", "StableDiffusionXLTimesteps"),
    ):
        _, timesteps = visited(name, 10, EPSILON)
        assert timesteps == pytest.approx(AysSchedules[published], abs=3)


def test_polyexponential_with_its_usual_exponent_is_exponential() -> None:
    ours = exponential(14.6, 0.03, 12)
    assert ours == pytest.approx(references.polyexponential(12, 0.03, 14.6), rel=3e-6)


def test_quantiles_of_the_beta_distribution() -> None:
    expected = scipy.stats.beta.ppf(np.linspace(1, 0, 101), 0.6, 0.6)
    assert beta(1.0, 0.0, 101) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_distilled_steps_are_exceeded_by_finer_ones() -> None:
    _, timesteps = visited("lcm", 200, EPSILON)
    assert timesteps.tolist() == pytest.approx(list(range(999, 0, -5)), abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_levels_fall_for_any_number_of_steps(schedule: str) -> None:
    for steps in (1, 33, 61, 1000):
        sigmas, _ = visited(schedule, steps, EPSILON)
        assert len(sigmas) == steps
        assert np.all(np.diff(sigmas) <= 0)
        assert sigmas[0] <= EPSILON.sigmas[-1] * (1 + 1e-9)
