"""Two models for one image, and one model twice: against diffusers, and against themselves."""

from __future__ import annotations

import warnings
from dataclasses import replace
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
    assert_same_image,
    ours,
    photo,
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


def finish(model: LatentDiffusion, state: DenoisingState) -> DenoisingState:
    while not state.done:
        model.advance([state])
    return state


def pixels(model: LatentDiffusion, state: DenoisingState) -> NDArray[np.uint8]:
    made: NDArray[np.uint8] = model.decode(state.x[None])[0].numpy()
    return made


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("euler", "linspace"), ("ddim", "leading"), ("dpmpp_2m", "karras"), ("unipc", "trailing")],
)
@pytest.mark.parametrize("denoising_end", [0.5, 0.8])
def test_refiner_continues_where_the_base_ended(
    tiny_sdxl: LatentDiffusion,
    tiny_sdxl_folder: Path,
    refiner: LatentDiffusion,
    refiner_folder: Path,
    sampler: str,
    schedule: str,
    denoising_end: float,
) -> None:
    params = SamplingParams(
        "the red cat", "a cat", width=48, height=32, steps=10, sampler=sampler,
        schedule=schedule, guidance_scale=4.0, seed=11, denoising_end=denoising_end,
    )  # fmt: skip
    base_pipe, base_config = reference_pipeline(
        diffusers.StableDiffusionXLPipeline, tiny_sdxl_folder
    )
    pipe, config = reference_pipeline(diffusers.StableDiffusionXLImg2ImgPipeline, refiner_folder)
    scheduler, options = SCHEDULERS[sampler, schedule]
    common = {
        "prompt": params.prompt, "negative_prompt": params.negative_prompt,
        "num_inference_steps": 10, "guidance_scale": 4.0,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base_pipe.scheduler = scheduler.from_config(base_config, **options)
        pipe.scheduler = scheduler.from_config(config, **options)
        latents = base_pipe(
            **common, width=48, height=32, denoising_end=denoising_end, output_type="latent",
            generator=torch.Generator().manual_seed(11),
        ).images  # fmt: skip
        expected = pipe(**common, image=latents, denoising_start=denoising_end).images[0]

    base = finish(tiny_sdxl, tiny_sdxl.start(params, [11])[0])
    np.testing.assert_allclose(base.x, latents[0], atol=2e-4)
    both = finish(refiner, RefinerPass(refiner, params).begin(base))
    assert_same_image(pixels(refiner, both), np.asarray(expected))


def test_refiner_alone_refines_an_image(refiner: LatentDiffusion, refiner_folder: Path) -> None:
    image = photo(48, 32)
    params = SamplingParams(
        "the red cat", "a cat", width=48, height=32, steps=8, sampler="euler",
        schedule="linspace", guidance_scale=4.0, seed=5, strength=0.6, image=as_tensor(image),
        aesthetic_score=7.0,
    )  # fmt: skip
    expected = theirs(
        diffusers.StableDiffusionXLImg2ImgPipeline, refiner_folder, params,
        image=image, strength=0.6, aesthetic_score=7.0,
    )  # fmt: skip
    assert_same_image(ours(refiner, params), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("denoising_end", [0.3, 0.5, 0.8])
def test_parts_of_a_table_are_the_whole(sampler: str, denoising_end: float) -> None:
    """No step is taken twice and none is left out."""
    steps = 20
    whole = compile_table(sampler, "leading", steps, SCHEDULE)
    first = compile_part(sampler, "leading", steps, SCHEDULE, denoising_end=denoising_end)
    rest = compile_rest(sampler, "leading", steps, SCHEDULE, denoising_end)
    timesteps = [*first.timestep, *rest.timestep]
    cut = 1000 * (1 - denoising_end)
    assert first.timestep[0] >= cut
    assert rest.timestep[0] < cut
    if sampler == "plms":  # both parts repeat its second evaluation
        assert list(dict.fromkeys(timesteps)) == list(dict.fromkeys(whole.timestep))
    else:
        assert timesteps == list(whole.timestep)
    assert (rest.start_signal, rest.start_noise) == (1.0, 0.0)


@pytest.mark.parametrize("denoising_end", [1e-6, 1 - 1e-6])
def test_each_part_has_a_step(denoising_end: float) -> None:
    parts = (
        compile_part("euler", "leading", 4, SCHEDULE, denoising_end=denoising_end),
        compile_rest("euler", "leading", 4, SCHEDULE, denoising_end),
    )
    assert sorted(len(part) for part in parts) == [1, 3]


def test_a_single_step_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="steps is 1"):
        compile_part("euler", "leading", 1, SCHEDULE, denoising_end=0.8)


def test_hires_fix_denoises_the_scaled_latents(tiny_sd: LatentDiffusion) -> None:
    """At the least strength the scaled image is nearly unchanged, at full strength not."""
    params = SamplingParams(
        "the cat", width=32, height=32, steps=6, sampler="ddim", schedule="leading"
    )
    small = finish(tiny_sd, tiny_sd.start(params, [3])[0])
    plain = torch.nn.functional.interpolate(
        small.x[None], size=(16, 16), mode="bicubic", antialias=True
    )[0]

    def distance(strength: float) -> float:
        larger = SamplingParams(
            "the cat", width=64, height=64, steps=50, sampler="ddim", schedule="leading",
            strength=strength,
        )  # fmt: skip
        first = finish(tiny_sd, tiny_sd.start(params, [3])[0])
        generate = finish(tiny_sd, HiresFixPass(tiny_sd, larger).begin(first))
        assert generate.x.shape == (4, 16, 16)
        return float((generate.x - plain).square().mean().sqrt() / plain.std())

    little, much = distance(0.02), distance(1.0)
    assert little < 0.2
    assert much > 2 * little


@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [("bilinear", False), ("bilinear", True), ("bicubic", False), ("nearest-exact", False)],
)
def test_hires_fix_scales_latents_as_asked_for(
    tiny_sd: LatentDiffusion, interpolation: str, antialias: bool
) -> None:
    """The second pass begins with the latents that torch interpolates, and noise."""
    params = SamplingParams(
        "the cat", width=32, height=32, steps=2, sampler="ddim", schedule="leading"
    )
    first = finish(tiny_sd, tiny_sd.start(params, [3])[0])
    larger = replace(params, width=48, height=64, strength=0.5)
    interpolated = torch.nn.functional.interpolate(
        first.x[None], size=(16, 12), mode=interpolation, antialias=antialias
    )
    noise = first.noise.resized((4, 16, 12))
    expected = tiny_sd.begin(larger, noise, interpolated[0])
    first = finish(tiny_sd, tiny_sd.start(params, [3])[0])
    second = HiresFixPass(tiny_sd, larger, interpolation, antialias).begin(first)
    assert torch.equal(second.x, expected.x)


def test_second_pass_continues_the_noise_of_the_image(
    tiny_sd: LatentDiffusion,
) -> None:
    """A seed determines both passes."""

    def generate(seed: int) -> torch.Tensor:
        params = SamplingParams("the cat", width=32, height=32, steps=3, sampler="euler_ancestral")
        larger = SamplingParams(
            "the cat", width=48, height=48, steps=4, sampler="euler_ancestral", strength=0.7
        )
        first = finish(tiny_sd, tiny_sd.start(params, [seed])[0])
        return finish(tiny_sd, HiresFixPass(tiny_sd, larger).begin(first)).x

    assert torch.equal(generate(1), generate(1))
    assert not torch.allclose(generate(1), generate(2))
