"""Every table against diffusers' own scheduler, x compared after every evaluation.

Both sides evaluate the same nonlinear network at their own x, so an error anywhere grows to the
end. Quirks of diffusers are matched, because only then a request gives the same image there and
here: DDIM and PNDM step T // steps timesteps with every spacing; PNDM's doubled step with a
strength leaves x one level noisier than the network's timestep, and it combines v of several levels
without conversion; one "leading" or "linspace" step is taken at the clean end; between the two
evaluations of a step the known region is at the level of its end. Cases that diffusers does not
support are in the tests at the end. Two samplers are missing here: see
`test_against_k_diffusion.py`.
"""

import itertools
from typing import Any

import numpy as np
import pytest

from models.samplers import SCHEDULES, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.samplers.oracle import CLASSES, Oracle, error, fresh_noise, make_oracle
from tests.models.samplers.toy import (
    CONFIGS,
    SD15,
    SHAPE,
    VELOCITY,
    X0,
    toy_network,
    unit_noise,
    walk,
)
from tests.support.sampling import sample

TOLERANCE = 1e-5
# The full range of steps for epsilon; the other configurations differ in their keys only.
STRENGTHS = (None, 1.0, 0.6)
STEPS = (1, 2, 3, 16)

# diffusers raises an error for x0 here, or combines it without converting it to noise.
NO_X0 = ("plms", "euler_ancestral", "dpm2", "dpm2_ancestral", "dpmpp_sde")
OTHERS = [
    (name, sampler)
    for name in CONFIGS
    for sampler in CLASSES
    if name != "sd15" and (name != "x0" or sampler not in NO_X0)
]
# diffusers' LMS is wrong when it begins in the middle: `test_inpainting_begun_in_the_middle` of
# `test_against_k_diffusion.py` compares that.
INPAINTED = [
    (sampler, strength)
    for sampler in CLASSES
    for strength in (None, 1.0, 0.7)
    if (sampler, strength) != ("lms", 0.7)
]
# diffusers' schedulers with `rescale_betas_zero_snr`.
ZERO_SNR = ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc", "dpmpp_2m_sde", "ddpm", "lcm")

NETWORK, Z0, NOISE = toy_network(), unit_noise(1), unit_noise(2)
MASK = (unit_noise(3) > 0).astype(np.float64)

# diffusers passes torch tensors to np.array, which numpy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


def largest_error(
    oracle: Oracle,
    schedule: str,
    steps: int,
    config: dict[str, Any],
    strength: float | None,
    mask: np.ndarray | None = None,
    eta: float = 0.0,
) -> float:
    noise_schedule = NoiseSchedule.from_config(config)
    table = compile_table(oracle.sampler, schedule, steps, noise_schedule, strength, eta)
    ours = list(walk(table, NETWORK, Z0, NOISE, fresh_noise, mask))
    theirs = list(oracle.walk(NETWORK, Z0, NOISE, steps, strength, mask))
    assert len(ours) == len(theirs)
    return max(error(x, reference) for x, reference in zip(ours, theirs, strict=True))


def failures(
    sampler: str,
    schedule: str,
    config: dict[str, Any],
    steps: tuple[int, ...],
    strengths: tuple[float | None, ...],
    tolerance: float = TOLERANCE,
) -> dict[tuple[int, float | None], float]:
    oracle_at = make_oracle(sampler, schedule, config)
    errors = {
        (count, strength): largest_error(oracle_at(count), schedule, count, config, strength)
        for count in steps
        for strength in strengths
        if strength is None or _comparable(sampler, count, strength)
    }
    return {case: e for case, e in errors.items() if not e <= tolerance}


def _comparable(sampler: str, steps: int, strength: float) -> bool:
    """Return False where diffusers' LMS is wrong.

    It takes the weights of four derivatives from the start, though it has one;
    `test_every_evaluation_is_that_of_k_diffusion` compares it where it begins in the middle.
    """
    return int(steps * strength) >= 1 and (sampler != "lms" or strength == 1.0)


@pytest.mark.parametrize(
    ("sampler", "schedule"), sample(itertools.product(CLASSES, SCHEDULES), every=3)
)
def test_every_step_is_that_of_diffusers(sampler: str, schedule: str) -> None:
    # diffusers computes in float32, and how that is rounded depends on the processor: with AMX,
    # two steps of dpm2_ancestral differ by 1.08e-5, elsewhere by less than 1e-5.
    tolerance = 2e-5 if sampler == "dpm2_ancestral" else TOLERANCE
    assert failures(sampler, schedule, SD15, STEPS, STRENGTHS, tolerance) == {}


@pytest.mark.parametrize(
    "schedule",
    ["trailing", *(pytest.param(s, marks=pytest.mark.long) for s in ("leading", "sgm_uniform"))],
)
@pytest.mark.parametrize(("name", "sampler"), OTHERS)
def test_every_configuration(name: str, sampler: str, schedule: str) -> None:
    assert failures(sampler, schedule, CONFIGS[name], (7,), (None, 0.6)) == {}


@pytest.mark.parametrize("sampler", ZERO_SNR)
def test_no_signal_at_the_start(sampler: str) -> None:
    config = VELOCITY | {"rescale_betas_zero_snr": True}
    # In sigma space x falls from 4096 to 1, and the rounding errors of the large numbers remain.
    tolerance = 3e-4 if sampler.startswith("euler") else TOLERANCE
    assert failures(sampler, "trailing", config, (1, 2, 4, 20), (None, 0.6), tolerance) == {}


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("lcm", "lcm"), ("tcd", "lcm"), ("euler", "trailing"), ("ddim", "trailing")],
)
def test_few_steps_of_distilled_models(sampler: str, schedule: str) -> None:
    """LCM and TCD adapters; Turbo, Lightning and Hyper checkpoints."""
    assert failures(sampler, schedule, SD15, (1, 2, 4, 8), (None, 0.5)) == {}


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("schedule", ["leading", "trailing", "karras"])
@pytest.mark.parametrize("config", [SD15, VELOCITY, X0], ids=["epsilon", "v", "x0"])
def test_ddim_with_fresh_noise(config: dict[str, Any], schedule: str, eta: float) -> None:
    oracle_at = make_oracle("ddim", schedule, config)
    for steps, strength in ((1, None), (5, None), (20, 0.6)):
        oracle = oracle_at(steps)
        oracle.arguments["eta"] = eta
        assert largest_error(oracle, schedule, steps, config, strength, eta=eta) <= TOLERANCE


@pytest.mark.parametrize(("sampler", "strength"), INPAINTED)
@pytest.mark.parametrize("schedule", ["leading", pytest.param("karras", marks=pytest.mark.long)])
def test_inpainting_keeps_the_known_region_as_diffusers_does(
    sampler: str, schedule: str, strength: float | None
) -> None:
    oracle = make_oracle(sampler, schedule, SD15)(10)
    if strength is None and hasattr(oracle.scheduler, "set_begin_index"):
        oracle.scheduler.set_begin_index(0)  # as the inpainting pipeline always does
    assert largest_error(oracle, schedule, 10, SD15, strength, MASK) <= TOLERANCE


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["karras", "karras-leading", "karras-trailing"])
def test_ddim_on_karras_levels_is_euler_in_sigma_space(schedule: str, prediction_type: str) -> None:
    """A second reference for levels that diffusers' DDIM lacks: x_ddim = x_euler * signal."""
    config = SD15 | {"prediction_type": prediction_type}
    oracle = make_oracle("euler", schedule, config)(12)
    table = compile_table("ddim", schedule, 12, NoiseSchedule.from_config(config), 1.0)
    signals = (1 + oracle.scheduler.sigmas.double().numpy() ** 2) ** -0.5
    theirs = oracle.walk(NETWORK, Z0, NOISE, 12, 1.0)
    for x, reference, signal in zip(walk(table, NETWORK, Z0, NOISE), theirs, signals, strict=True):
        assert error(x, reference * signal) <= TOLERANCE


def test_plms_on_karras_levels_is_adams_bashforth_in_sigma_space() -> None:
    """The same reference for PLMS: x + (next sigma - sigma) * combination, from a stored x."""
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
    """With an offset of 1, diffusers takes timestep 1000 of 0..999, and fails on its level."""
    oracle = make_oracle("ddim", "leading", SD15)(1000)
    with pytest.raises(IndexError):
        next(oracle.walk(NETWORK, Z0, NOISE, 1000, 1.0))
    table = compile_table("ddim", "leading", 1000, NoiseSchedule.from_config(SD15))
    assert table.timestep[:3].tolist() == [999, 999, 998]


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_equal_levels_are_not_extrapolated(sampler: str) -> None:
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
