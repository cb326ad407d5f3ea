"""Cards of models, read from their files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from models.samplers import SAMPLERS, SCHEDULES, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.schedules.registry import FLOW_SCHEDULES, schedules_of
from protocol.request.samplers import SAMPLER_TITLES, SCHEDULE_TITLES, evaluations
from tests.models.published.families import (
    EDM_DPM,
    EDM_EULER,
    FLOW_MATCH,
    NORMALISED,
    SDXL_UNET,
    Published,
    write,
)
from tests.support.tiny_models import write_tiny_sd
from worker.model_info.model_card import model_card, model_name
from worker.model_info.published_sampler import _SAMPLERS, published_sampler


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5"),
        ("/some/folder/My Model (v2)/", "My-Model-v2"),
        ("..", "model"),
    ],
)
def test_names_fit_queues_and_urls(given: str, name: str) -> None:
    assert model_name(given) == name


def test_bounds_and_defaults_come_from_the_files(model: LatentDiffusion) -> None:
    card = model_card(model, "somebody/tiny")
    assert (card.name, card.family) == ("tiny", "sd1")
    assert (card.size_multiple, card.min_side, card.default_width) == (4, 8, 32)
    assert (card.default_sampler, card.default_schedule) == ("plms", "leading")
    assert (card.chunk_tokens, card.max_prompt_tokens) == (75, 300)
    assert card.max_clip_skip == 1  # of an encoder of two layers


def test_darkroom_json_overrides_the_card(model: LatentDiffusion, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model.folder, tmp_path / "model"))
    copied = replace(model, folder=folder)
    (folder / "darkroom.json").write_text(json.dumps({"name": "mine", "default_steps": 7}))
    card = model_card(copied, "somebody/tiny")
    assert (card.name, card.default_steps) == ("mine", 7)
    stated = {"prediction_type": "v_prediction", "zero_terminal_snr": True, "family": "mine"}
    (folder / "darkroom.json").write_text(json.dumps(stated))
    card = model_card(copied, "somebody/tiny")
    assert (card.family, card.default_sampler) == ("mine", "ddim")
    (folder / "darkroom.json").write_text(json.dumps({"default_stepz": 7}))
    with pytest.raises(ValueError, match="default_stepz"):
        model_card(copied, "somebody/tiny")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_class_name": "PNDMScheduler"}, ("plms", "leading")),
        ({"_class_name": "LCMScheduler", "timestep_spacing": "leading"}, ("lcm", "lcm")),
        ({"_class_name": "HeunDiscreteScheduler", "use_beta_sigmas": True}, ("heun", "beta")),
        (
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "algorithm_type": "sde-dpmsolver++",
                "use_karras_sigmas": True,
            },
            ("dpmpp_2m_sde", "karras"),
        ),
        ({"timestep_spacing": "trailing"}, ("dpmpp_2m", "trailing")),
    ],
)
def test_default_sampler_is_the_published_one(
    config: dict[str, object], expected: tuple[str, str]
) -> None:
    assert published_sampler(config) == expected


@pytest.mark.parametrize(
    ("name", "saved_from", "turbo"),
    [
        ("stabilityai/sdxl-turbo", "", True),
        ("stabilityai/sd-turbo", "", True),
        ("/models/sd_xl_turbo_1.0_fp16.safetensors", "", True),
        ("mine", "stabilityai/sd-turbo", True),
        ("DreamShaperXL-Turbo", "", False),
        ("sdxl-turbocharged", "", False),
        ("mine", "", False),
    ],
)
def test_turbo_models_take_one_step_without_guidance(
    model: LatentDiffusion, tmp_path: Path, name: str, saved_from: str, turbo: bool
) -> None:
    folder = Path(shutil.copytree(model.folder, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text()) | {"_name_or_path": saved_from}
    (folder / "model_index.json").write_text(json.dumps(index))
    card = model_card(replace(model, folder=folder), name)
    assert (card.default_steps == 1) is turbo
    assert (card.default_guidance_scale == 1.0) is turbo
    assert (card.default_schedule == "trailing") is turbo
    assert (card.default_sampler == "euler") is turbo
    (folder / "darkroom.json").write_text(json.dumps({"default_steps": 4}))
    assert model_card(replace(model, folder=folder), name).default_steps == 4


def test_table_names_schedulers_of_diffusers_and_known_samplers() -> None:
    """The keys are class names of diffusers, the values names of samplers here."""
    for scheduler, sampler in _SAMPLERS.items():
        assert hasattr(diffusers, scheduler), scheduler
        assert sampler in SAMPLERS


def test_playground_has_its_published_defaults(tmp_path: Path) -> None:
    published = Published("playground", "StableDiffusionXLPipeline", SDXL_UNET, EDM_DPM)
    folder = write(replace(published, vae=NORMALISED), tmp_path)
    card = model_card(load_model(str(folder), torch.device("meta")), "playground-v2.5")
    assert (card.default_steps, card.default_guidance_scale) == (50, 3.0)
    assert (card.default_sampler, card.default_schedule) == ("dpmpp_2m", "karras")
    assert set(SAMPLERS) - set(card.samplers) == {"lcm", "tcd", "plms"}
    assert "align-your-steps-xl" not in card.schedules


def test_cosxl_and_flows_have_the_samplers_of_their_training(tmp_path: Path) -> None:
    cosxl = write_tiny_sd(tmp_path / "cosxl", **EDM_EULER)
    card = model_card(load_model(str(cosxl), torch.device("meta")), "cosxl")
    assert (card.default_sampler, card.default_schedule) == ("euler", "exponential")
    flow = write_tiny_sd(tmp_path / "flow", **FLOW_MATCH)
    card = model_card(load_model(str(flow), torch.device("meta")), "flow")
    assert (card.default_sampler, card.default_schedule) == ("euler", "flow")
    assert set(card.samplers) == {"euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"}
    assert card.schedules == ("flow", "flow-dpm", "flow-unipc")


def test_align_your_steps_is_listed_for_its_own_family_only() -> None:
    levels = NoiseSchedule()
    assert set(schedules_of(levels, sdxl=True)) ^ set(schedules_of(levels, sdxl=False)) == {
        "align-your-steps",
        "align-your-steps-xl",
    }


def test_every_sampler_and_schedule_has_a_title() -> None:
    assert sorted(SAMPLER_TITLES) == sorted(SAMPLERS)
    assert list(SCHEDULE_TITLES) == [*SCHEDULES, *FLOW_SCHEDULES]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_the_calls_of_the_network(sampler: str) -> None:
    table = compile_table(sampler, "trailing", 10, NoiseSchedule())
    extra = sampler == "plms"  # runs its first step twice, which takes no noticeable time
    assert evaluations(sampler, 10) == len(table) - extra


def test_riffusion_models_have_sound_as_output(model: LatentDiffusion) -> None:
    """The family follows from the published name or from the models config."""
    published = model_card(model, "riffusion/riffusion-model-v1")
    configured = model_card(model, "somebody/tunes", {"family": "riffusion"})
    assert published.family == configured.family == "riffusion"
    assert published.outputs == configured.outputs == ("image", "sound")
    assert "sound" not in model_card(model, "somebody/tunes").outputs
