"""Stable Diffusion inpainting, conditioned on the masked image, against diffusers' pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import ControlImage, SamplingParams
from models.loading.controlnets import ControlNets
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.models.pipeline.test_control_images import as_control, control_image
from tests.models.pipeline.test_control_images import theirs as theirs_controlled
from tests.models.pipeline.test_pipeline import (
    as_tensor,
    assert_same_image,
    ours,
    photo,
    theirs,
)
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_inpainting

MASK = np.zeros((32, 48), np.uint8)
MASK[8:24, 12:36] = 255
PARAMS = SamplingParams(
    "the red cat", "a bad cat", width=48, height=32, steps=6, sampler="ddim", schedule="leading",
    guidance_scale=3.0, seed=8, image=as_tensor(photo(48, 32)),
    mask=torch.from_numpy(MASK)[None] / 255,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_inpainting(tmp_path_factory.mktemp("inpainting"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentDiffusion:
    return load_model(str(folder), torch.device("cpu"))


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("ddim", "leading"), ("plms", "leading"), ("euler_ancestral", "leading")],
)
def test_unet_is_conditioned_on_the_masked_image(
    model: LatentDiffusion, folder: Path, sampler: str, schedule: str, strength: float
) -> None:
    params = replace(PARAMS, sampler=sampler, schedule=schedule, strength=strength)
    expected = theirs(
        diffusers.StableDiffusionInpaintPipeline, folder, params, image=photo(48, 32),
        mask_image=Image.fromarray(MASK), strength=strength, width=48, height=32,
    )  # fmt: skip
    assert_same_image(ours(model, params), expected)


@pytest.mark.parametrize("of_nine_channels", [True, False])
def test_unmarked_pixels_are_restored_as_by_diffusers_overlay(
    model: LatentDiffusion,
    folder: Path,
    tiny_sd: LatentDiffusion,
    tiny_sd_folder: Path,
    of_nine_channels: bool,
) -> None:
    """diffusers' pipelines return the decoded image; its overlay is applied here."""
    model, folder = (model, folder) if of_nine_channels else (tiny_sd, tiny_sd_folder)
    image, mask = photo(48, 32), Image.fromarray(MASK)
    decoded = theirs(
        diffusers.StableDiffusionInpaintPipeline, folder, PARAMS, image=image,
        mask_image=mask, strength=1.0, width=48, height=32,
    )  # fmt: skip
    overlay = diffusers.image_processor.VaeImageProcessor().apply_overlay
    expected = np.asarray(overlay(mask, image, Image.fromarray(decoded)).convert("RGB"))
    mine = model.postprocess(PARAMS, torch.tensor(ours(model, PARAMS))).numpy()
    assert_same_image(mine, expected)
    np.testing.assert_array_equal(mine[MASK == 0], np.asarray(image)[MASK == 0])


def test_with_a_controlnet(model: LatentDiffusion, folder: Path, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "edges", folder)
    net, image = ControlNets(tmp_path).get("edges", model), control_image(48, 32)
    params = replace(PARAMS, controls=(ControlImage(net, as_control(image), 0.8),))
    expected = theirs_controlled(
        "StableDiffusionControlNetInpaintPipeline", folder, [tmp_path / "edges"], params,
        image=photo(48, 32), mask_image=Image.fromarray(MASK), control_image=image,
        controlnet_conditioning_scale=0.8, strength=1.0,
    )  # fmt: skip
    assert_same_image(ours(model, params), expected)


def test_without_a_mask_everything_is_generated(model: LatentDiffusion) -> None:
    generated = ours(model, replace(PARAMS, image=None, mask=None))
    assert generated.shape == (32, 48, 3)
    assert generated.std() > 5
