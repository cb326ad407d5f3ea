"""The bundled model: it loads on every machine and follows the prompt."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.docs.gallery import with_defaults
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import BUNDLED, load_model
from models.pipeline import LatentDiffusion
from worker.model_info.model_card import model_card

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


@pytest.mark.parametrize(
    "prompt", ["red heart", pytest.param("crescent moon", marks=pytest.mark.long)]
)
def test_image_equals_diffusers_from_the_same_noise(model: LatentDiffusion, prompt: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers' own
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(BUNDLED, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = diffusers.DDIMScheduler.from_config(
            pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
        )
        theirs = pipe(
            prompt,
            num_inference_steps=12,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(3),
        ).images[0]
    side = model.unet.config.sample_size * model.autoencoder.config.factor
    [ours] = generate_images(
        model,
        SamplingParams(
            prompt, width=side, height=side, steps=12, sampler="ddim", schedule="trailing",
            guidance_scale=4.0, seed=3,
        ),
    )  # fmt: skip
    difference = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
    assert difference.max() <= 1


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
