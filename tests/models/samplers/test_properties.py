"""Properties of any sampler, schedule, number of steps and strength."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import protocol.request.samplers
from models.samplers import HISTORY, SAMPLERS, SCHEDULES, Plan, SamplerTable, compile_table
from models.samplers.noise_schedule import FloatArray, NoiseSchedule
from models.samplers.spacing import log_sigmas_at
from models.samplers.table import apply, known
from tests.models.samplers.toy import SD15, SHAPE, VELOCITY, X0, unit_noise, walk

EPSILON = NoiseSchedule.from_config(SD15)
TO_ONE = NoiseSchedule.from_config(SD15 | {"set_alpha_to_one": True})
V = NoiseSchedule.from_config(VELOCITY)
ZERO_SNR = NoiseSchedule.from_config(VELOCITY | {"rescale_betas_zero_snr": True})

OF_X0 = NoiseSchedule.from_config(X0)

STOCHASTIC = {
    "euler_ancestral",
    "dpm2_ancestral",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "ddpm",
    "lcm",
    "tcd",
}
# They end at a trained level, or, LCM, with a share of x left by the boundary condition.
ENDS_NEAR = {"deis": 0.15, "tcd": 0.15, "lcm": 0.15}
ROUNDED_TIMESTEPS = {"dpmpp_2m", "unipc", "dpmpp_2m_sde", "dpmpp_3m_sde", "deis"}
TWO_STAGE = {name for name, info in protocol.request.samplers.SAMPLERS.items() if info.two_stage}

samplers = st.sampled_from(list(SAMPLERS))
schedules = st.sampled_from(list(SCHEDULES))
steps_taken = st.integers(1, 60) | st.integers(1, 1000)
strengths = st.none() | st.floats(0.01, 1.0)
Z0, NOISE = unit_noise(5), unit_noise(6)


def compiled(
    sampler: str, schedule: str, steps: int, noise_schedule: NoiseSchedule, strength: float | None
) -> SamplerTable:
    assume(strength is None or int(steps * strength) >= 1)
    return compile_table(sampler, schedule, steps, noise_schedule, strength)


@settings(max_examples=150, deadline=None)
@given(samplers, schedules, steps_taken, st.sampled_from([EPSILON, V, ZERO_SNR, OF_X0]), strengths)
def test_tables_are_sound(
    sampler: str, schedule: str, steps: int, noise_schedule: NoiseSchedule, strength: float | None
) -> None:
    table = compiled(sampler, schedule, steps, noise_schedule, strength)
    kept = steps if strength is None else int(steps * strength)
    if sampler in TWO_STAGE:
        assert len(table) == 2 * kept - 1
    else:
        assert len(table) == kept + (sampler == "plms" and steps > 1)
    assert table.history.shape == (len(table), HISTORY)
    for name, column in table.to_dict().items():
        assert np.isfinite(column).all(), name
    assert np.all((table.timestep >= 0) & (table.timestep <= 999))
    if sampler not in TWO_STAGE:  # a trial that overshoots is cleaner than the next level
        assert np.all(np.diff(table.timestep) <= 0)
    assert np.all(table.noise >= 0)
    assert np.any(table.noise) <= (sampler in STOCHASTIC)
    assert np.any(table.carried_noise) <= (sampler == "dpmpp_sde")
    assert table.noise[-1] == 0
    # No row uses more predictions than were made.
    for row in range(min(len(table), HISTORY)):
        assert not table.history[row, row + 1 :].any()


@settings(max_examples=60, deadline=None)
@given(samplers, schedules, steps_taken, strengths)
def test_known_region_gets_clean_as_the_noise_falls(
    sampler: str, schedule: str, steps: int, strength: float | None
) -> None:
    table = compiled(sampler, schedule, steps, EPSILON, strength)
    ratio = table.known_noise / table.known_signal
    assert np.all(np.diff(ratio) <= 0)
    assert (table.known_signal[-1], table.known_noise[-1]) == (1.0, 0.0)
    assert np.array_equal(known(table, len(table) - 1, Z0, NOISE), Z0)


@settings(max_examples=40, deadline=None)
@given(samplers, schedules, st.integers(1, 100), strengths)
def test_tables_are_deterministic_and_survive_json(
    sampler: str, schedule: str, steps: int, strength: float | None
) -> None:
    table = compiled(sampler, schedule, steps, EPSILON, strength)
    afresh = SAMPLERS[sampler](Plan(EPSILON, SCHEDULES[schedule], steps, strength))
    read = SamplerTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert table.to_dict() == afresh.to_dict() == read.to_dict()
    assert read.history.dtype == np.float64


class Perfect:
    """A network that predicts x0 exactly, evaluated at the level of x, row by row."""

    def __init__(
        self, table: SamplerTable, sampler: str, schedule: str, noise_schedule: NoiseSchedule
    ) -> None:
        if sampler in ROUNDED_TIMESTEPS:  # the known region is at the level of the next row
            start = [table.start_noise / table.start_signal]
            self.sigmas = np.array([*start, *(table.known_noise / table.known_signal)[:-1]])
        elif (table.input_scale != 1).all():  # sigma space
            self.sigmas = (1 / table.input_scale**2 - 1) ** 0.5
        elif SCHEDULES[schedule].in_sigmas:  # with a timestep between trained ones, by log sigma
            self.sigmas = log_sigmas_at(table.timestep, noise_schedule)
        else:
            self.sigmas = noise_schedule.sigmas_at(table.timestep)
        self.prediction_type = noise_schedule.prediction_type
        self.row = 0

    def __call__(self, x: FloatArray, timestep: float) -> FloatArray:
        sigma = float(self.sigmas[self.row])
        self.row += 1
        signal, noise = (sigma**2 + 1) ** -0.5, sigma * (sigma**2 + 1) ** -0.5
        match self.prediction_type:
            case "v_prediction":
                return (signal * x - Z0) / noise
            case "sample":
                return Z0
        return (x - signal * Z0) / noise


@settings(max_examples=200, deadline=None)
@given(samplers, schedules, st.integers(1, 80), st.sampled_from([TO_ONE, V, OF_X0]), strengths)
def test_a_perfect_denoiser_ends_at_x0(
    sampler: str, schedule: str, steps: int, noise_schedule: NoiseSchedule, strength: float | None
) -> None:
    if sampler == "ddim" and schedule == "trailing":
        # diffusers' stride of T // steps stops short of the end if steps do not divide T.
        assume(1000 % steps == 0)
    if sampler == "ddim" and noise_schedule.set_alpha_to_one is not True:
        assume(SCHEDULES[schedule].in_sigmas)
    if sampler == "plms":
        # PLMS mixes outputs of several levels. They agree for epsilon, not v, and only where x
        # is at the level of the network's timestep: on stride, and not with diffusers' img2img.
        assume(noise_schedule.prediction_type == "epsilon")
        assume(schedule not in ("linspace", "trailing"))
        assume(strength is None or int(steps * strength) == steps)
    if sampler in (*ROUNDED_TIMESTEPS, "lcm", "tcd") and strength is None:
        # Pure noise is at no level of the table; and the two samplers that get timestep 0, as by
        # "leading" of one step, change nothing.
        strength = 1.0
    table = compiled(sampler, schedule, steps, noise_schedule, strength)
    network = Perfect(table, sampler, schedule, noise_schedule)
    *_, x = walk(table, network, Z0, NOISE, lambda row: unit_noise(7 + row))
    assert x == pytest.approx(Z0, abs=ENDS_NEAR.get(sampler, 1e-6))


def test_ddim_with_all_its_noise_is_ddpm() -> None:
    ddim = compile_table("ddim", "karras", 20, EPSILON, 0.8, eta=1.0)
    ddpm = compile_table("ddpm", "karras", 20, EPSILON, 0.8)
    for name in ("timestep", "keep_x", "noise", "known_noise"):
        assert getattr(ddim, name) == pytest.approx(getattr(ddpm, name), abs=1e-12), name
    assert ddim.history == pytest.approx(ddpm.history, abs=1e-12)


@pytest.mark.parametrize("sampler", sorted(STOCHASTIC))
def test_noise_keeps_the_variance(sampler: str) -> None:
    """For images of zeros, the noise left at every level has the strength of the level."""
    table = compile_table(sampler, "trailing", 12, OF_X0, 1.0)
    samples = np.random.default_rng(0).normal(size=(len(table) + 1, 20_000))
    x = table.start_noise * samples[-1]
    history: tuple[FloatArray, ...] = ()
    for row in range(len(table) - 1):
        fresh = samples[row] + table.carried_noise[row] * samples[row - 1]
        x, history = apply(table, row, x, np.zeros_like(x), history, fresh)
        if sampler not in TWO_STAGE or row % 2 == 1:
            assert x.std() == pytest.approx(table.known_noise[row], rel=0.05)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_img2img_starts_at_the_level_of_its_first_row(sampler: str) -> None:
    whole = compile_table(sampler, "karras", 10, EPSILON, 1.0)
    part = compile_table(sampler, "karras", 10, EPSILON, 0.4)
    skipped = len(whole) - len(part)
    # "known" is the level of x after a row, or after the second of two rows that make a step.
    assert part.start_signal == pytest.approx(whole.known_signal[skipped - 1])
    assert part.start_noise == pytest.approx(whole.known_noise[skipped - 1])
    assert whole.timestep[skipped:].tolist() == part.timestep.tolist()


def test_columns_cannot_be_written() -> None:
    table = compile_table("euler", "linspace", 3, EPSILON)
    with pytest.raises(ValueError, match="read-only"):
        table.timestep[0] = 0.0
    assert table.start_noise * np.ones(SHAPE) == pytest.approx(14.6146, abs=1e-3)
