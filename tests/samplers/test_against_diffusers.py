"""Every table against diffusers' own scheduler, x compared after every step.

Both sides ask the same nonlinear network at their own x, so an error anywhere grows to the end.
Quirks of diffusers are matched, not mended, since matching is what lets a request give the same
image there and here: DDIM and PNDM step T // steps timesteps whatever the spacing; PNDM's doubled
step with a strength leaves x one level noisier than the network is told, and it combines v of
several levels raw; one "leading" or "linspace" step is taken at the clean end. What diffusers
cannot do at all is in the tests at the end.
"""

from typing import Any

import numpy as np
import pytest

from models.samplers import SAMPLERS, SCHEDULES, compile_table
from models.schedule import NoiseSchedule
from tests.samplers.oracle import Oracle, error, fresh_noise, make_oracle
from tests.samplers.toy import CONFIGS, SD15, SHAPE, toy_network, unit_noise, walk

TOLERANCE = 1e-5
STRENGTHS = (None, 1.0, 0.8, 0.3)
# The full range of steps for epsilon and v; the other configurations differ in their keys only.
STEPS = {
    "sd15": (1, 2, 3, 5, 10, 20, 50),
    "velocity": (1, 2, 3, 5, 10, 20, 50),
    "sdxl": (3, 20),
    "bundled": (3, 20),
    "bare": (3, 20),
}

NETWORK, Z0, NOISE = toy_network(), unit_noise(1), unit_noise(2)
MASK = (unit_noise(3) > 0).astype(np.float64)

# diffusers gives torch tensors to np.array, which numpy 2 wants to be asked for differently.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def largest_error(
    oracle: Oracle,
    sampler: str,
    schedule: str,
    steps: int,
    config: dict[str, Any],
    strength: float | None,
    mask: np.ndarray | None = None,
) -> float:
    table = compile_table(sampler, schedule, steps, NoiseSchedule.from_config(config), strength)
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise, mask))
    theirs = list(oracle.walk(NETWORK, Z0, NOISE, steps, strength, mask))
    assert len(ours) == len(theirs)
    return max(error(x, reference) for x, reference in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_is_that_of_diffusers(name: str, sampler: str, schedule: str) -> None:
    oracle_at = make_oracle(sampler, schedule, CONFIGS[name])
    errors = {
        (steps, strength): largest_error(
            oracle_at(steps), sampler, schedule, steps, CONFIGS[name], strength
        )
        for steps in STEPS[name]
        for strength in STRENGTHS
        if strength is None or int(steps * strength) >= 1
    }
    assert {case: e for case, e in errors.items() if not e <= TOLERANCE} == {}


@pytest.mark.parametrize("strength", [None, 1.0, 0.7])
@pytest.mark.parametrize("schedule", ["leading", "trailing", "karras"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_keeps_the_known_region_as_diffusers_does(
    sampler: str, schedule: str, strength: float | None
) -> None:
    oracle = make_oracle(sampler, schedule, SD15)(10)
    if strength is None and hasattr(oracle.scheduler, "set_begin_index"):
        oracle.scheduler.set_begin_index(0)  # the inpainting pipeline always does
    assert largest_error(oracle, sampler, schedule, 10, SD15, strength, MASK) <= TOLERANCE


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["karras", "karras-leading", "karras-trailing"])
def test_ddim_on_karras_levels_is_euler_in_sigma_space(schedule: str, prediction_type: str) -> None:
    """A second witness for what diffusers' DDIM cannot do itself: x_ddim = x_euler * signal."""
    config = SD15 | {"prediction_type": prediction_type}
    oracle = make_oracle("euler", schedule, config)(12)
    table = compile_table("ddim", schedule, 12, NoiseSchedule.from_config(config), 1.0)
    signals = (1 + oracle.scheduler.sigmas.double().numpy() ** 2) ** -0.5
    theirs = oracle.walk(NETWORK, Z0, NOISE, 12, 1.0)
    for x, reference, signal in zip(walk(table, NETWORK, Z0, NOISE), theirs, signals, strict=True):
        assert error(x, reference * signal) <= TOLERANCE


def test_plms_on_karras_levels_is_adams_bashforth_in_sigma_space() -> None:
    """The same witness for PLMS: x + (next sigma - sigma) * combination, with x kept aside."""
    oracle = make_oracle("euler", "karras", SD15)(8)
    sigmas = oracle.scheduler.sigmas.double().numpy()
    timesteps = oracle.scheduler.timesteps.double().tolist()

    def noise_in(x: np.ndarray, index: int) -> np.ndarray:
        return NETWORK(x / (1 + sigmas[index] ** 2) ** 0.5, timesteps[index])

    first = Z0 + sigmas[0] * NOISE
    outputs = [noise_in(first, 0)]
    second = first + (sigmas[1] - sigmas[0]) * outputs[0]
    x = first + (sigmas[1] - sigmas[0]) * (outputs[0] + noise_in(second, 1)) / 2
    expected = [first, second, x]
    for index in range(1, 8):
        outputs.insert(0, noise_in(x, index))
        weights = {2: [3, -1], 3: [23, -16, 5]}.get(len(outputs), [55, -59, 37, -9])
        combination = sum(w * e for w, e in zip(weights, outputs, strict=False)) / sum(weights)
        x = x + (sigmas[index + 1] - sigmas[index]) * combination
        expected.append(x)

    signals = (1 + sigmas[[0, *range(1, 9)]] ** 2) ** -0.5
    signals = np.insert(signals, 1, signals[1])  # level 1 is reached twice
    table = compile_table("plms", "karras", 8, NoiseSchedule.from_config(SD15), 1.0)
    ours = walk(table, NETWORK, Z0, NOISE)
    for mine, reference, signal in zip(ours, expected, signals, strict=True):
        assert error(mine, reference * signal) <= TOLERANCE


def test_a_trailing_list_has_no_timestep_below_zero() -> None:
    """diffusers makes 62 timesteps of 61, the last one -1: rounding in np.arange."""
    oracle = make_oracle("ddim", "trailing", SD15)(61)
    assert oracle.scheduler.timesteps.tolist()[-2:] == [15, -1]
    table = compile_table("ddim", "trailing", 61, NoiseSchedule.from_config(SD15))
    assert len(table) == 61
    assert table.timestep.tolist() == oracle.scheduler.timesteps.tolist()[:-1]


def test_a_thousand_leading_steps_stay_within_training() -> None:
    """With an offset of 1, diffusers asks for timestep 1000 of 0..999, and fails on its level."""
    oracle = make_oracle("ddim", "leading", SD15)(1000)
    with pytest.raises(IndexError):
        next(oracle.walk(NETWORK, Z0, NOISE, 1000, 1.0))
    table = compile_table("ddim", "leading", 1000, NoiseSchedule.from_config(SD15))
    assert table.timestep[:3].tolist() == [999, 999, 998]


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_two_equal_levels_are_no_line(sampler: str) -> None:
    """With 1000 rounded timesteps two are the same, and diffusers divides by their distance."""
    oracle = make_oracle(sampler, "linspace", SD15)(1000)
    with np.errstate(invalid="ignore"):
        *_, theirs = oracle.walk(NETWORK, Z0, NOISE, 1000, 1.0)
    assert not np.isfinite(theirs).any()
    table = compile_table(sampler, "linspace", 1000, NoiseSchedule.from_config(SD15), 1.0)
    *_, ours = walk(table, NETWORK, Z0, NOISE)
    fewer = compile_table(sampler, "linspace", 900, NoiseSchedule.from_config(SD15), 1.0)
    *_, close = walk(fewer, NETWORK, Z0, NOISE)
    assert ours.shape == SHAPE
    assert error(ours, close) < 1e-2
