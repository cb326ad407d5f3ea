"""The bundled model: it loads on every machine and follows the prompt."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.docs.gallery import TURBO, for_turbo, with_defaults, with_turbo
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import BUNDLED, load_model
from models.pipeline import LatentDiffusion
from protocol.request.generation_params import GenerationParams
from protocol.request.request import Task
from protocol.request.resolve import resolve
from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_card import model_card
from worker.model_info.model_description import describe_models
from worker.settings import WorkerSettings

LARGEST = 64 * 2**20  # bytes of all of its weights


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return load_model("bundled", torch.device("cpu"))


def generate_images(model: LatentDiffusion, *all_params: SamplingParams) -> NDArray[np.uint8]:
    """Generate (N, H, W, 3)."""
    *_, last = model.generate(all_params)
    pixels: NDArray[np.uint8] = model.decode(torch.stack([t.x for t in last])).numpy()
    return pixels


def params(model: LatentDiffusion, prompt: str, seed: int = 0) -> SamplingParams:
    return with_defaults(model_card(model, "bundled"), prompt, seed)


@pytest.fixture(scope="module")
def pipe() -> diffusers.StableDiffusionPipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers' own
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(BUNDLED, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def image_of(pipe: diffusers.StableDiffusionPipeline, ours: SamplingParams) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) of diffusers for the parameters, with the pipeline's scheduler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [image] = pipe(
            ours.prompt,
            num_inference_steps=ours.steps,
            guidance_scale=ours.guidance_scale,
            generator=torch.Generator().manual_seed(ours.seed),
        ).images
    return np.asarray(image)


def largest_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    "prompt", ["red heart", pytest.param("crescent moon", marks=pytest.mark.long)]
)
def test_image_equals_diffusers_from_the_same_noise(
    model: LatentDiffusion, pipe: diffusers.StableDiffusionPipeline, prompt: str
) -> None:
    pipe.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    asked = replace(params(model, prompt, seed=3), steps=12, sampler="ddim", schedule="trailing")
    [ours] = generate_images(model, asked)
    assert ours.shape == (128, 128, 3)
    assert largest_difference(ours, image_of(pipe, asked)) <= 1


@pytest.mark.parametrize(
    "prompt", ["red heart", pytest.param("crescent moon", marks=pytest.mark.long)]
)
def test_turbo_image_equals_diffusers_from_the_same_noise(
    model: LatentDiffusion, pipe: diffusers.StableDiffusionPipeline, prompt: str
) -> None:
    asked = for_turbo(params(model, prompt, seed=3))
    assert (asked.sampler, asked.steps, asked.guidance_scale) == ("lcm", 4, 1.0)
    [plain], [ours] = (generate_images(each, asked) for each in (model, with_turbo(model)))
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(TURBO.parent, weight_name=TURBO.name)
    theirs = image_of(pipe, asked)
    pipe.unload_lora_weights()
    assert largest_difference(ours, theirs) <= 1
    assert largest_difference(plain, image_of(pipe, asked)) <= 1
    assert largest_difference(plain, ours) > 8  # the LoRA has an effect


def test_turbo_is_offered_with_its_settings(tmp_path: Path) -> None:
    settings = WorkerSettings(models_home=tmp_path)
    descriptions = describe_models(settings, torch.device("cpu")).descriptions
    [(card, _)] = ModelCards(list(descriptions.values()), tmp_path).cards()
    assert card.loras == ("turbo",)
    [info] = card.lora_info
    assert (info.sampler, info.schedule, info.guidance_scale, info.steps) == ("lcm", "lcm", 1, 4)
    asked = GenerationParams(prompt="red heart <lora:turbo:1>", seed=7)
    request = resolve(Task.TXT2IMG, asked, card, lambda text: len(text.split()))
    assert (request.sampler, request.schedule, request.guidance_scale) == ("lcm", "lcm", 1)
    assert (request.steps, request.width, request.height) == (4, 128, 128)


# Expected shares of saturated pixels of some hues (degrees); the background is white.
COLOURS = {
    "red heart": (340, 20),
    "green apple": (60, 160),
    "crescent moon": (30, 65),
    "blue heart": (190, 250),
    "tree": (60, 160),
}


@pytest.mark.parametrize(
    "prompt",
    [
        "green apple",
        "blue heart",
        *(pytest.param(p, marks=pytest.mark.long) for p in ("red heart", "crescent moon", "tree")),
    ],
)
def test_colours_are_those_of_the_prompt(model: LatentDiffusion, prompt: str) -> None:
    images = generate_images(model, *(params(model, prompt, seed) for seed in range(4)))
    first, last = COLOURS[prompt]
    assert np.mean([share_of_hues(image, first, last) for image in images]) > 0.5


def share_of_hues(image: NDArray[np.uint8], first: float, last: float) -> float:
    """Return the share of the saturated pixels with a hue from `first` up to `last` degrees."""
    rgb = image.reshape(-1, 3).astype(float) / 255
    high, low = rgb.max(1), rgb.min(1)
    rgb, high, low = (a[high - low > 0.25] for a in (rgb, high, low))
    if not len(rgb):
        return 0.0
    red, green, blue = rgb.T
    sector = np.select(
        [high == red, high == green],
        [(green - blue) / (high - low), 2 + (blue - red) / (high - low)],
        4 + (red - green) / (high - low),
    )
    hue = sector * 60 % 360
    inside = (hue - first) % 360 <= (last - first) % 360
    return float(inside.mean())


def test_images_have_a_white_background(model: LatentDiffusion) -> None:
    images = generate_images(
        model, *(params(model, prompt) for prompt in ("pizza", "cat", "star", "car"))
    )
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners > 215).mean() > 0.8


def test_different_prompts_give_different_images(model: LatentDiffusion) -> None:
    pizza, moon = generate_images(
        model, params(model, "pizza"), params(model, "crescent moon")
    ).astype(int)
    assert np.abs(pizza - moon).mean() > 20


def test_model_is_small_and_states_its_origin() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*.safetensors")) <= LARGEST
    index = json.loads((BUNDLED / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    words = "\n".join(path.read_text() for path in Path(BUNDLED).glob("*.md"))
    for source in ("fluent-emoji", "noto", "twemoji", "emojione", "fxemoji"):
        assert source in words.lower()
