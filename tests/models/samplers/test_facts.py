"""Tables against timesteps and levels recorded from the published checkpoints' schedulers."""

import json
from typing import Any

import numpy as np
import pytest

from models.samplers import SamplerTable, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.samplers.toy import SD15
from tests.support.shared_files import shared_file

FACTS = "facts/checkpoints/fixtures/schedulers.json"
CONFIGS = "facts/checkpoints/configs"
SD15_FOLDER = "stable-diffusion-v1-5__stable-diffusion-v1-5"
SDXL_FOLDER = "stabilityai__stable-diffusion-xl-base-1.0"
CELEBAHQ_FOLDER = "CompVis__ldm-celebahq-256"

RECORDED = {
    "sd1_pndm_50": (SD15_FOLDER, "plms", "leading"),
    "sd1_ddim_50": (SD15_FOLDER, "ddim", "leading"),
    "sd1_ddim_20": (SD15_FOLDER, "ddim", "leading"),
    "sd1_euler_30": (SD15_FOLDER, "euler", "linspace"),
    "sd1_euler_a_30": (SD15_FOLDER, "euler_ancestral", "linspace"),
    "sd1_dpmpp_2m_20": (SD15_FOLDER, "dpmpp_2m", "linspace"),
    "sd1_unipc_20": (SD15_FOLDER, "unipc", "linspace"),
    "sdxl_euler_50": (SDXL_FOLDER, "euler", "leading"),
    "sdxl_euler_40": (SDXL_FOLDER, "euler", "leading"),
    "celebahq_ddim_50": (CELEBAHQ_FOLDER, "ddim", "leading"),
    "celebahq_ddim_200": (CELEBAHQ_FOLDER, "ddim", "leading"),
}


def published(folder: str) -> NoiseSchedule:
    path = shared_file(f"{CONFIGS}/{folder}/scheduler/scheduler_config.json")
    return NoiseSchedule.from_config(json.loads(path.read_text()))


def recorded(name: str) -> tuple[dict[str, Any], NoiseSchedule, SamplerTable]:
    fact = json.loads(shared_file(FACTS).read_text())[name]
    folder, sampler, schedule = RECORDED[name]
    noise_schedule = published(folder)
    return fact, noise_schedule, compile_table(sampler, schedule, fact["steps"], noise_schedule)


@pytest.mark.parametrize("name", RECORDED)
def test_timesteps_and_initial_noise(name: str) -> None:
    fact, _, table = recorded(name)
    assert table.timestep == pytest.approx(fact["timesteps"], abs=1e-4)
    assert table.start_noise == pytest.approx(fact["init_noise_sigma"], rel=1e-6)
    assert table.start_signal == 0.0


@pytest.mark.parametrize("name", [name for name in RECORDED if "ddim" not in name])
def test_noise_levels(name: str) -> None:
    fact, noise_schedule, table = recorded(name)
    if "sigmas" not in fact:
        assert table.known_signal[-1] == 1.0
        return
    reached = table.known_noise / table.known_signal
    assert reached == pytest.approx(fact["sigmas"][1:], rel=5e-6)
    assert noise_schedule.sigmas_at(table.timestep) == pytest.approx(fact["sigmas"][:-1], rel=5e-6)


@pytest.mark.parametrize("name", RECORDED)
def test_alphas_cumprod(name: str) -> None:
    fact, noise_schedule, _ = recorded(name)
    for timestep, alpha in fact["alphas_cumprod"].items():
        assert noise_schedule.alphas_cumprod[int(timestep)] == pytest.approx(alpha, rel=2e-6)


@pytest.mark.parametrize("name", ["sd1_ddim_50", "celebahq_ddim_50"])
def test_final_level_of_ddim(name: str) -> None:
    """A perfect prediction of pure noise shows the final level: the noise that remains."""
    fact, _, table = recorded(name)
    # For epsilon, keep_x = s_after / s_before and weight = n_after - keep_x * n_before.
    alpha = fact["alphas_cumprod"]["0" if fact["steps_offset"] == 0 else "1"]
    left = table.history[-1, 0] + table.keep_x[-1] * (1 - alpha) ** 0.5
    assert left == pytest.approx((1 - fact["final_alpha_cumprod"]) ** 0.5, abs=1e-6)


def test_betas_of_the_original_code() -> None:
    """CompVis computed in float64: linspace(sqrt(0.00085), sqrt(0.012), 1000) ** 2."""
    noise_schedule = NoiseSchedule.from_config(SD15)
    assert noise_schedule.betas[0] == pytest.approx(0.00085)
    assert noise_schedule.betas[-1] == pytest.approx(0.012)
    assert noise_schedule.alphas_cumprod[999] == pytest.approx(0.004660098513077238, rel=1e-7)
    assert np.all(np.diff(noise_schedule.alphas_cumprod) < 0)
