"""Two models for one picture, and one model twice: against diffusers, and against themselves."""

from __future__ import annotations

import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.multi_pass import HiresFixPass, RefinerPass
from models.pipeline import LatentDiffusion
from models.samplers import SAMPLERS, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.partial import compile_part, compile_rest
from tests.models.pipeline.test_pipeline import (
    SCHEDULERS,
    as_tensor,
    assert_same_picture,
    ours,
    photograph,
    reference_pipeline,
    theirs,
)
from tests.support.tiny_models import write_tiny_refiner

SCHEDULE = NoiseSchedule(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
)


@pytest.fixture(scope="module")
def refiner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_refiner(tmp_path_factory.mktemp("tiny-refiner"))


@pytest.fixture(scope="module")
def refiner(refiner_folder: Path) -> LatentDiffusion:
    return load_model(str(refiner_folder), torch.device("cpu"))


def finish(model: LatentDiffusion, picture: DenoisingState) -> DenoisingState:
    while not picture.done:
        model.advance([picture])
    return picture


def pixels(model: LatentDiffusion, picture: DenoisingState) -> NDArray[np.uint8]:
    made: NDArray[np.uint8] = model.decode(picture.x[None])[0].numpy()
    return made


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("euler", "linspace"), ("ddim", "leading"), ("dpmpp_2m", "karras"), ("unipc", "trailing")],
)
@pytest.mark.parametrize("until", [0.5, 0.8])
def test_the_refiner_goes_on_where_the_base_ended(
    tiny_sdxl: LatentDiffusion,
    tiny_sdxl_folder: Path,
    refiner: LatentDiffusion,
    refiner_folder: Path,
    sampler: str,
    schedule: str,
    until: float,
) -> None:
    recipe = SamplingParams(
        "the red cat", "a cat", width=48, height=32, steps=10, sampler=sampler,
        schedule=schedule, guidance_scale=4.0, seed=11, until=until,
    )  # fmt: skip
    base_pipe, base_config = reference_pipeline(
        diffusers.StableDiffusionXLPipeline, tiny_sdxl_folder
    )
    pipe, config = reference_pipeline(diffusers.StableDiffusionXLImg2ImgPipeline, refiner_folder)
    scheduler, options = SCHEDULERS[sampler, schedule]
    common = {
        "prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt,
        "num_inference_steps": 10, "guidance_scale": 4.0,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base_pipe.scheduler = scheduler.from_config(base_config, **options)
        pipe.scheduler = scheduler.from_config(config, **options)
        latents = base_pipe(
            **common, width=48, height=32, denoising_end=until, output_type="latent",
            generator=torch.Generator().manual_seed(11),
        ).images  # fmt: skip
        expected = pipe(**common, image=latents, denoising_start=until).images[0]

    base = finish(tiny_sdxl, tiny_sdxl.start(recipe, [11])[0])
    np.testing.assert_allclose(base.x, latents[0], atol=2e-4)
    both = finish(refiner, RefinerPass(refiner, recipe).begin(base))
    assert_same_picture(pixels(refiner, both), np.asarray(expected))


def test_the_refiner_alone_refines_a_picture(
    refiner: LatentDiffusion, refiner_folder: Path
) -> None:
    image = photograph(48, 32)
    recipe = SamplingParams(
        "the red cat", "a cat", width=48, height=32, steps=8, sampler="euler",
        schedule="linspace", guidance_scale=4.0, seed=5, strength=0.6, image=as_tensor(image),
        aesthetic_score=7.0,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionXLImg2ImgPipeline, refiner_folder, recipe,
        image=image, strength=0.6, aesthetic_score=7.0,
    )  # fmt: skip
    assert_same_picture(ours(refiner, recipe), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("until", [0.3, 0.5, 0.8])
def test_the_parts_of_a_way_are_the_whole(sampler: str, until: float) -> None:
    """No step is taken twice and none is left out."""
    steps = 20
    whole = compile_table(sampler, "leading", steps, SCHEDULE)
    first = compile_part(sampler, "leading", steps, SCHEDULE, until=until)
    rest = compile_rest(sampler, "leading", steps, SCHEDULE, until)
    told = [*first.timestep, *rest.timestep]
    cut = 1000 * (1 - until)
    assert first.timestep[0] >= cut
    assert rest.timestep[0] < cut
    if sampler == "plms":  # its second evaluation is repeated by whoever begins
        assert list(dict.fromkeys(told)) == list(dict.fromkeys(whole.timestep))
    else:
        assert told == list(whole.timestep)
    assert (rest.start_signal, rest.start_noise) == (1.0, 0.0)


@pytest.mark.parametrize("until", [1e-6, 1 - 1e-6])
def test_each_part_has_a_step(until: float) -> None:
    parts = (
        compile_part("euler", "leading", 4, SCHEDULE, until=until),
        compile_rest("euler", "leading", 4, SCHEDULE, until),
    )
    assert sorted(len(part) for part in parts) == [1, 3]


def test_a_single_step_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="steps is 1"):
        compile_part("euler", "leading", 1, SCHEDULE, until=0.8)


def test_enlarging_redraws_the_scaled_latents(tiny_sd: LatentDiffusion) -> None:
    """At the least strength the scaled picture is nearly left alone, at full strength not."""
    recipe = SamplingParams(
        "the cat", width=32, height=32, steps=6, sampler="ddim", schedule="leading"
    )
    small = finish(tiny_sd, tiny_sd.start(recipe, [3])[0])
    plain = torch.nn.functional.interpolate(
        small.x[None], size=(16, 16), mode="bicubic", antialias=True
    )[0]

    def distance(strength: float) -> float:
        larger = SamplingParams(
            "the cat", width=64, height=64, steps=50, sampler="ddim", schedule="leading",
            strength=strength,
        )  # fmt: skip
        first = finish(tiny_sd, tiny_sd.start(recipe, [3])[0])
        drawn = finish(tiny_sd, HiresFixPass(tiny_sd, larger).begin(first))
        assert drawn.x.shape == (4, 16, 16)
        return float((drawn.x - plain).square().mean().sqrt() / plain.std())

    little, much = distance(0.02), distance(1.0)
    assert little < 0.2
    assert much > 2 * little


def test_the_second_pass_goes_on_drawing_from_the_pictures_own_noise(
    tiny_sd: LatentDiffusion,
) -> None:
    """Two passes of one seed are one recipe: the same seed gives the same, another seed another."""

    def drawn(seed: int) -> torch.Tensor:
        recipe = SamplingParams("the cat", width=32, height=32, steps=3, sampler="euler_ancestral")
        larger = SamplingParams(
            "the cat", width=48, height=48, steps=4, sampler="euler_ancestral", strength=0.7
        )
        first = finish(tiny_sd, tiny_sd.start(recipe, [seed])[0])
        return finish(tiny_sd, HiresFixPass(tiny_sd, larger).begin(first)).x

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.allclose(drawn(1), drawn(2))
