"""Networks that edit an image by instructions, guided by prompt and image: against diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from models.denoising.noise import ImageNoise
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo, theirs
from tests.support.tiny_models import write_tiny_edit
from worker.model_info.model_card import model_card

PARAMS = SamplingParams(
    "make it red", "a bad cat", width=48, height=32, steps=5, sampler="euler_ancestral",
    schedule="leading", guidance_scale=4.0, image_guidance_scale=1.6, seed=8,
    image=as_tensor(photo(48, 32)),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_edit(tmp_path_factory.mktemp("edit"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentDiffusion:
    return load_model(str(folder), torch.device("cpu"))


@pytest.mark.parametrize(
    ("guidance", "by_image", "rows"), [(4.0, 1.6, 3), (4.0, 1.0, 2), (1.0, 1.6, 1)]
)
def test_image_equals_diffusers_with_the_rows_it_needs(
    model: LatentDiffusion, folder: Path, guidance: float, by_image: float, rows: int
) -> None:
    params = replace(PARAMS, guidance_scale=guidance, image_guidance_scale=by_image)
    [state] = model.start(params, [params.seed])
    assert (state.rows, model.guided_rows(params)) == (rows, rows)
    expected = theirs(
        diffusers.StableDiffusionInstructPix2PixPipeline, folder, params, image=photo(48, 32),
        image_guidance_scale=by_image,
    )  # fmt: skip
    assert_same_image(ours(model, params), expected)


def test_image_guidance_has_the_interval_of_guidance(model: LatentDiffusion) -> None:
    [state] = model.start(replace(PARAMS, guidance_interval=(0.2, 0.6)), [1])
    rows = []
    while not state.done:
        rows.append(state.rows)
        model.advance([state])
    assert rows == [1, 3, 3, 1, 1]


def test_less_strength_starts_from_the_image(model: LatentDiffusion) -> None:
    [from_noise] = model.start(PARAMS, [1])
    [from_image] = model.start(replace(PARAMS, strength=0.6), [1])
    assert (from_noise.steps, from_image.steps) == (5, 3)
    assert torch.equal(from_noise.concat, from_image.concat)  # type: ignore[arg-type]
    noise = ImageNoise(1, model.latent_shape(48, 32))
    assert PARAMS.image is not None
    source = model.sample_latents(model.encode_image(PARAMS.image), noise)
    table, unit = from_image.table, noise.sample(torch.device("cpu"))
    assert torch.equal(from_image.x, table.start_noise * unit + table.start_signal * source)


def test_scale_means_nothing_to_other_networks(tiny_sd: LatentDiffusion) -> None:
    params = replace(PARAMS, image=None)
    [state] = tiny_sd.start(params, [1])
    assert (state.rows, tiny_sd.guided_rows(params)) == (2, 2)


def test_card_has_the_published_defaults(model: LatentDiffusion, folder: Path) -> None:
    card = model_card(model, str(folder))
    assert card.tasks == ("img2img",)
    assert (card.default_steps, card.default_strength) == (100, 1.0)
    assert (card.default_guidance_scale, card.default_image_guidance_scale) == (7.5, 1.5)
