"""Noise schedules from published configurations, against diffusers' own."""

from typing import Any

import diffusers
import numpy as np
import pytest

from models.samplers.noise_schedule import NoiseSchedule
from tests.models.samplers.toy import BARE, SD15, VELOCITY

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    "config",
    [
        {},
        SD15,
        BARE,
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "linear", "num_train_timesteps": 400},
        {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4},
        VELOCITY | {"rescale_betas_zero_snr": True},
    ],
)
def test_levels_are_those_of_diffusers(config: dict[str, Any]) -> None:
    ours = NoiseSchedule.from_config(config)
    theirs = diffusers.DDIMScheduler.from_config(config)
    # A float32 product of a thousand factors has the error of as many roundings.
    assert ours.alphas_cumprod == pytest.approx(theirs.alphas_cumprod.numpy(), rel=3e-5, abs=1e-9)
    euler = diffusers.EulerDiscreteScheduler.from_config(config)
    # x = z0 + sigma * noise: compared with a signal of 1, rounding errors of a tiny sigma vanish.
    assert ours.sigmas == pytest.approx(euler.sigmas[:-1].numpy()[::-1], rel=3e-5, abs=3e-6)
    assert np.all(np.diff(ours.sigmas) > 0)


def test_a_schedule_is_its_configuration() -> None:
    assert NoiseSchedule.from_config(SD15) == NoiseSchedule.from_config(dict(SD15))
    assert hash(NoiseSchedule.from_config(SD15)) == hash(NoiseSchedule.from_config(SD15))
    assert NoiseSchedule.from_config(SD15) != NoiseSchedule.from_config(VELOCITY)
    assert NoiseSchedule.from_config(SD15).set_alpha_to_one is False
    assert NoiseSchedule.from_config(BARE).set_alpha_to_one is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "flow"}, "prediction_type is 'flow'"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
        ({"trained_betas": [0.1, 0.2]}, "2 trained_betas for 1000 timesteps"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"thresholding": True}, "thresholding = True"),
        ({"timestep_type": "continuous"}, "timestep_type = 'continuous'"),
    ],
)
def test_unsupported_scheduler_options_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_config(config)


def test_arrays_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        NoiseSchedule().alphas_cumprod[0] = 1.0
