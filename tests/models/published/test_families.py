"""Families beside Stable Diffusion 1.x and SDXL base, from prompt to pixels against diffusers."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.meta import meta_device
from models.denoising.sampling_params import SamplingParams
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.networks.config import UNetConfig
from models.networks.layers import dilated, pointwise_convolutions
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo
from tests.models.published.families import (
    BK_SDM_SMALL_UNET,
    EDM_DPM,
    EDM_EULER,
    EULER,
    EULER_ANCESTRAL,
    FLOW_DPM,
    FLOW_MATCH,
    FLOW_UNIPC,
    KOALA_UNET,
    NORMALISED,
    SD1_UNET,
    SD2_UNET,
    SDXL_UNET,
    SSD_1B_UNET,
    TINY_SD_UNET,
    UNEVEN_UNET,
    UPSCALER,
    UPSCALER_UNET,
    V_PREDICTION,
    VEGA_UNET,
    Published,
    write,
)
from tests.support.tiny_models import AUTOENCODER

SDXL = "StableDiffusionXLPipeline"
SIZE = 32
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[8:24, 8:20] = 255
ESTIMATOR = ("depth_estimator", "feature_extractor")
DEPTH = torch.linspace(0.1, 0.6, 24)[:, None].mul(torch.linspace(0.5, 1, 20))[None]

NORMALISING = Published("normalised", SDXL, SDXL_UNET, EULER, "euler", vae=NORMALISED)
PLAYGROUND = Published(
    "playground-v2.5", SDXL, SDXL_UNET, EDM_DPM, "dpmpp_2m", "karras", NORMALISED
)

EDIT_SDXL = Published(
    "sdxl-instruct-pix2pix",
    "StableDiffusionXLInstructPix2PixPipeline",
    SDXL_UNET | {"in_channels": 8},
    EULER,
    "euler",
)

FAMILIES = (
    NORMALISING,
    PLAYGROUND,
    Published("cosxl", SDXL, SDXL_UNET, EDM_EULER, "euler", "exponential"),
    Published("sd1-flow", "StableDiffusionPipeline", SD1_UNET, FLOW_DPM, "dpmpp_2m", "flow-dpm"),
    Published("sdxl-flow", SDXL, SDXL_UNET, FLOW_UNIPC, "unipc", "flow-unipc"),
    Published("sd2-base", "StableDiffusionPipeline", SD2_UNET | {"sample_size": 64}),
    Published(
        "sd2", "StableDiffusionPipeline", SD2_UNET | {"sample_size": 96}, V_PREDICTION, "ddim"
    ),
    Published("sd2-inpainting", "StableDiffusionInpaintPipeline", SD2_UNET | {"in_channels": 9}),
    Published(
        "sdxl-inpainting",
        "StableDiffusionXLInpaintPipeline",
        SDXL_UNET | {"in_channels": 9},
        EULER,
        "euler",
    ),
    Published(
        "sd2-depth",
        "StableDiffusionDepth2ImgPipeline",
        SD2_UNET | {"in_channels": 5},
        index={"depth_estimator": ["transformers", "DPTForDepthEstimation"]},
    ),
    Published(
        "x4-upscaler",
        "StableDiffusionUpscalePipeline",
        UPSCALER_UNET,
        UPSCALER,
        "ddim",
        vae={"scaling_factor": 0.08333},
        index={"max_noise_level": 350},
    ),
    Published(
        "instruct-pix2pix",
        "StableDiffusionInstructPix2PixPipeline",
        SD1_UNET | {"in_channels": 8},
        EULER_ANCESTRAL,
        "euler_ancestral",
        "linspace",
    ),
    EDIT_SDXL,
    replace(EDIT_SDXL, name="cosxl-edit's latents", index={"is_cosxl_edit": True}),
    Published("ssd-1b", SDXL, SSD_1B_UNET, EULER, "euler"),
    Published("segmind-vega", SDXL, VEGA_UNET, EULER, "euler"),
    Published("koala", SDXL, KOALA_UNET, EULER, "euler"),
    Published("bk-sdm-small", "StableDiffusionPipeline", BK_SDM_SMALL_UNET),
    Published("tiny-sd", "StableDiffusionPipeline", TINY_SD_UNET),
    Published("uneven", "StableDiffusionPipeline", UNEVEN_UNET),
)


def params_of(published: Published) -> SamplingParams:
    given: dict[str, Any] = {}
    if published.is_inpainting:
        given = {"image": as_tensor(photo(SIZE, SIZE)), "mask": torch.from_numpy(MASK)[None] / 255}
    if published.is_edit:
        given = {"image": as_tensor(photo(SIZE, SIZE)), "image_guidance_scale": 1.7}
    if published.reads_depth:
        given = {"image": as_tensor(photo(SIZE, SIZE)), "strength": 0.75, "depth": DEPTH}
    if published.upscales:
        given = {"low_res": as_tensor(photo(SIZE // 4, SIZE // 4)), "noise_level": 140}
    return SamplingParams(
        "the red cat", "a bad cat", width=SIZE, height=SIZE, steps=4, sampler=published.sampler,
        schedule=published.schedule, guidance_scale=4.0, seed=7, **given,
    )  # fmt: skip


def theirs(pipe: Any, params: SamplingParams, **inputs: Any) -> NDArray[np.uint8]:
    """Return the image of a pipeline of diffusers with its own scheduler.

    inputs: in place of those that the parameters mean.
    """
    given: dict[str, Any] = {"width": params.width, "height": params.height}
    if params.image is not None:
        given |= {"image": photo(params.width, params.height), "strength": params.strength}
        given |= {"mask_image": Image.fromarray(MASK), "eta": params.eta}
        given |= {"image_guidance_scale": params.image_guidance_scale}
        given |= {"guidance_rescale": params.guidance_rescale, "depth_map": params.depth}
    if params.low_res is not None:
        given = {"image": photo(params.width // 4, params.height // 4)}
        given |= {"noise_level": params.noise_level}
    taken = inspect.signature(pipe.__call__).parameters
    given = {name: value for name, value in given.items() if name in taken} | inputs
    pipe.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = pipe(
            params.prompt, negative_prompt=params.negative_prompt,
            num_inference_steps=params.steps, guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed), **given,
        ).images[0]  # fmt: skip
    return np.asarray(image)


def assert_equal_images(model: LatentDiffusion, pipe: Any, params: SamplingParams) -> None:
    assert_same_image(ours(model, params), theirs(pipe, params))


# Their parts are those of other families here, or of single files in test_family_files.py.
LONG = {
    *("normalised", "sd2-base", "cosxl", "sdxl-flow", "sdxl-inpainting", "sdxl-instruct-pix2pix"),
    *("segmind-vega", "koala", "bk-sdm-small"),
}


@pytest.mark.parametrize(
    "published",
    [pytest.param(each, marks=pytest.mark.long if each.name in LONG else ()) for each in FAMILIES],
    ids=str,
)
def test_image_of_a_folder_equals_diffusers(published: Published, tmp_path: Path) -> None:
    folder = write(published, tmp_path)
    assert inspect_checkpoint(str(folder)).valid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The estimator of depth is not used where a map is given.
        left_out = dict.fromkeys(ESTIMATOR) if published.reads_depth else {}
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder, **left_out)
    model = load_model(str(folder), torch.device("cpu"))
    # By the kernel that ours uses: the flow model makes two levels of the kernels' difference.
    with dilated(pointwise_convolutions(pipe.unet)):
        assert_equal_images(model, pipe, params_of(published))


class FlowScheduler(diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """With what pipelines of Stable Diffusion read: the noise and the input are as they are."""

    init_noise_sigma = 1.0

    def scale_model_input(self, sample: torch.Tensor, timestep: object) -> torch.Tensor:
        return sample


@pytest.mark.parametrize(
    "published",
    [
        Published("sd1", "StableDiffusionPipeline", SD1_UNET, FLOW_MATCH, "euler", "flow"),
        pytest.param(
            Published("sdxl", SDXL, SDXL_UNET, FLOW_MATCH, "euler", "flow"), marks=pytest.mark.long
        ),
    ],
    ids=str,
)
def test_image_of_a_flow_matched_model_equals_diffusers(
    published: Published, tmp_path: Path
) -> None:
    folder = write(published, tmp_path)
    report = inspect_checkpoint(str(folder))
    assert (report.valid, report.prediction) == (True, "flow_prediction, shift 3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = FlowScheduler.from_config(pipe.scheduler.config)
    # With seed 7 the random network of sd1 is unstable: a timestep that is another by one rounding
    # changes its output by 5 %.
    params = replace(params_of(published), seed=8)
    assert_equal_images(load_model(str(folder), torch.device("cpu")), pipe, params)


@pytest.mark.parametrize("published", FAMILIES, ids=str)
def test_parameters_at_the_published_size_are_those_of_diffusers(published: Published) -> None:
    with meta_device(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = diffusers.UNet2DConditionModel.from_config(dict(published.unet))
        unet = UNet(UNetConfig.from_dict({**reference.config}))
    expected = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in unet.state_dict().items()} == expected


@pytest.mark.parametrize(
    "published", [pytest.param(NORMALISING, marks=pytest.mark.long), PLAYGROUND], ids=str
)
def test_latents_of_an_image_are_normalised_as_by_diffusers(
    published: Published, tmp_path: Path
) -> None:
    folder = write(published, tmp_path)
    params = replace(
        params_of(published), image=as_tensor(photo(SIZE, SIZE)), strength=0.5, steps=6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        expected = pipe(
            params.prompt, negative_prompt=params.negative_prompt, image=photo(SIZE, SIZE),
            strength=0.5, num_inference_steps=6, guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
        ).images[0]  # fmt: skip
    assert_same_image(
        ours(load_model(str(folder), torch.device("cpu")), params), np.asarray(expected)
    )


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        ({"latents_mean": [0.0] * 4}, "one is given without the other"),
        ({"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, "latents_mean=.*: 4 are needed"),
        ({"latents_mean": [0.0] * 4, "latents_std": [0.0] * 4}, "latents_std=.*: must be above 0"),
        ({"latents_mean": [float("nan")] * 4, "latents_std": [1.0] * 4}, "must be above 0"),
        (NORMALISED | {"shift_factor": 0.1}, "shift_factor and latents_mean"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(vae: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        AutoencoderConfig.from_dict({"_class_name": "AutoencoderKL", **vae})


def test_shift_is_the_mean_of_all_channels() -> None:
    settings = {**vars(AUTOENCODER), "scaling_factor": 2.0}
    shifted = AutoencoderKL(AutoencoderConfig(**settings | {"shift_factor": 0.25}))
    z = torch.randn(2, 4, 3, 3)
    assert torch.allclose(shifted.scaled(z), (z - 0.25) * 2.0)
    assert torch.allclose(shifted.unscaled(shifted.scaled(z)), z)
