"""Images against those of diffusers' pipelines: same folder of weights, same seeds."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.denoising.sampling_params import SamplingParams
from models.pipeline import LatentDiffusion
from tests.support.sampling import sample

ONE_LEVEL = 1  # of 255, per pixel and channel

SCHEDULERS: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {
    ("plms", "leading"): (diffusers.PNDMScheduler, {}),
    ("ddim", "leading"): (diffusers.DDIMScheduler, {"clip_sample": False}),
    ("euler", "linspace"): (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
    ("euler_ancestral", "leading"): (
        diffusers.EulerAncestralDiscreteScheduler,
        {"timestep_spacing": "leading"},
    ),
    ("dpmpp_2m", "karras"): (
        diffusers.DPMSolverMultistepScheduler,
        {"use_karras_sigmas": True, "timestep_spacing": "linspace"},
    ),
    ("unipc", "trailing"): (diffusers.UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
}
COMBINATIONS = list(SCHEDULERS)
# Samplers with two evaluations a step and fresh noise show the rows and the order of the noise.
SCHEDULERS |= {
    ("heun", "linspace"): (diffusers.HeunDiscreteScheduler, {}),
    ("dpm2_ancestral", "leading"): (
        diffusers.KDPM2AncestralDiscreteScheduler,
        {"timestep_spacing": "leading"},
    ),
    ("dpmpp_2m_sde", "trailing"): (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "timestep_spacing": "trailing"},
    ),
    ("ddpm", "leading"): (diffusers.DDPMScheduler, {"clip_sample": False}),
    ("lcm", "lcm"): (diffusers.LCMScheduler, {"clip_sample": False}),
    ("tcd", "lcm"): (diffusers.TCDScheduler, {"clip_sample": False}),
}


@cache
def reference_pipeline(pipeline: Any, folder: Path) -> tuple[Any, Any]:
    """Load a diffusers pipeline and its published scheduler configuration; it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe, pipe.scheduler.config


def theirs(pipeline: Any, folder: Path, params: SamplingParams, **inputs: Any) -> NDArray[np.uint8]:
    """Return the image of diffusers, (H, W, 3)."""
    pipe, published = reference_pipeline(pipeline, folder)
    scheduler, config = SCHEDULERS[params.sampler, params.schedule]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers passes tensors to numpy in a deprecated way
        pipe.scheduler = scheduler.from_config(published, **config)
        image = pipe(
            prompt=params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
            **inputs,
        ).images[0]
    return np.asarray(image)


def ours(model: LatentDiffusion, params: SamplingParams) -> NDArray[np.uint8]:
    for batch in model.generate([params]):
        last = batch
    pixels: NDArray[np.uint8] = model.decode(torch.stack([t.x for t in last]))[0].numpy()
    return pixels


def assert_same_image(mine: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
    assert mine.shape == reference.shape
    assert reference.std() > 5, "the reference is flat: this comparison would prove nothing"
    assert np.abs(mine.astype(int) - reference.astype(int)).max() <= ONE_LEVEL


def photo(width: int, height: int) -> Image.Image:
    """Return smooth colours with an edge, which are not trivial for an autoencoder."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, (x > y) * 200]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize(("sampler", "schedule"), SCHEDULERS)
def test_txt2img(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, sampler: str, schedule: str
) -> None:
    params = SamplingParams(
        "the red cat", "a bad cat", width=48, height=32, steps=7, sampler=sampler,
        schedule=schedule, guidance_scale=4.0, seed=11,
    )  # fmt: skip
    # The pipeline passes its own eta, which for TCD is not the default of the scheduler.
    inputs = {"eta": 0.3} if sampler == "tcd" else {}
    expected = theirs(
        diffusers.StableDiffusionPipeline, tiny_sd_folder, params, width=48, height=32, **inputs
    )
    assert_same_image(ours(tiny_sd, params), expected)


def test_txt2img_without_guidance(tiny_sd: LatentDiffusion, tiny_sd_folder: Path) -> None:
    params = SamplingParams(
        "the cat", width=32, height=32, steps=5, sampler="ddim", schedule="leading",
        guidance_scale=1.0, seed=3,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionPipeline, tiny_sd_folder, params, width=32, height=32
    )
    assert_same_image(ours(tiny_sd, params), expected)


def test_rescaled_guidance_and_fresh_noise(tiny_sd: LatentDiffusion, tiny_sd_folder: Path) -> None:
    params = SamplingParams(
        "the red cat", "a bad cat", width=32, height=32, steps=6, sampler="ddim",
        schedule="leading", eta=0.8, guidance_scale=300.0, guidance_rescale=0.7, seed=8,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionPipeline, tiny_sd_folder, params, width=32, height=32, eta=0.8,
        guidance_rescale=0.7,
    )  # fmt: skip
    assert_same_image(ours(tiny_sd, params), expected)
    plain = ours(tiny_sd, replace(params, guidance_rescale=0.0))
    assert np.abs(plain.astype(int) - expected.astype(int)).max() > ONE_LEVEL


@pytest.mark.parametrize(
    ("negative", "sampler", "schedule"),
    sample([(text, *pair) for text in ("", "a blurry thing") for pair in COMBINATIONS], every=5),
)
def test_txt2img_sdxl(
    tiny_sdxl: LatentDiffusion,
    tiny_sdxl_folder: Path,
    sampler: str,
    schedule: str,
    negative: str,
) -> None:
    params = SamplingParams(
        "the red cat!", negative, width=32, height=48, steps=4, sampler=sampler,
        schedule=schedule, guidance_scale=5.0, seed=5,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionXLPipeline, tiny_sdxl_folder, params, width=32, height=48
    )
    assert_same_image(ours(tiny_sdxl, params), expected)


@pytest.mark.parametrize(
    ("strength", "sampler", "schedule"),
    sample([(strength, *pair) for strength in (0.35, 0.8, 1.0) for pair in COMBINATIONS], every=5),
)
def test_img2img(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, sampler: str, schedule: str, strength: float
) -> None:
    image = photo(48, 32)
    params = SamplingParams(
        "the red cat", width=48, height=32, steps=8, sampler=sampler, schedule=schedule,
        guidance_scale=3.0, seed=21, strength=strength, image=as_tensor(image),
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionImg2ImgPipeline, tiny_sd_folder, params, image=image,
        strength=strength,
    )  # fmt: skip
    assert_same_image(ours(tiny_sd, params), expected)


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize(
    # A stochastic sampler takes its noise after diffusers' inpainting has encoded the masked image
    # once more, a result that is discarded for a four-channel network.
    ("sampler", "schedule"),
    [c for c in COMBINATIONS if c[0] != "euler_ancestral"],
)
def test_inpaint(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, sampler: str, schedule: str, strength: float
) -> None:
    image, mask = photo(48, 32), np.zeros((32, 48), np.uint8)
    mask[8:24, 12:36] = 255
    params = SamplingParams(
        "the red cat", width=48, height=32, steps=6, sampler=sampler, schedule=schedule,
        guidance_scale=3.0, seed=8, strength=strength, image=as_tensor(image),
        mask=torch.from_numpy(mask)[None] / 255,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionInpaintPipeline, tiny_sd_folder, params, image=image,
        mask_image=Image.fromarray(mask), strength=strength, width=48, height=32,
    )  # fmt: skip
    assert_same_image(ours(tiny_sd, params), expected)
