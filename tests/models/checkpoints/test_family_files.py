"""Single files of Stable Diffusion 2.x, SDXL inpainting and SDXL distilled, from prompt to pixels.

The files are made with the networks of the original code and the published names. diffusers
reads the same file and generates the reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.checkpoint import read_json, resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.families import families
from models.loading.loader import load_model
from tests.models.checkpoints.published import mapping
from tests.models.checkpoints.references import (
    CONTEXT,
    clip_state,
    clip_text,
    compvis_first_stage,
    compvis_unet,
    open_clip_transformer,
    shaken,
    small,
)
from tests.models.checkpoints.test_sdxl_files import (
    POOLED,
    first_stage_state,
    narrow,
    narrow_family,
)
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo
from tests.models.published.families import SDXL_UNET, SSD_1B_UNET, VEGA_UNET, Published
from tests.models.published.test_families import (
    ESTIMATOR,
    SIZE,
    assert_equal_images,
    params_of,
    theirs,
)
from tests.support.published import SDXL

# Tensors that mark the training of two models, and are no weights.
PLAYGROUND = {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}
COSXL = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}

VOCABULARY = 49408  # of CLIP's tokenizer, which a single file does not hold
COMPONENTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
Only = Callable[..., None]

# The package of CompVis' UNet calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning")


def distilled(unet: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries in which a derivative differs from SDXL."""
    return {key: value for key, value in unet.items() if SDXL_UNET.get(key, ...) != value}


def open_clip_state(width: int, output: int) -> dict[str, Tensor]:
    with open_clip_transformer() as code:
        text = code.TextTransformer(
            context_length=77, vocab_size=VOCABULARY, width=width, heads=max(width // 64, 1),
            layers=3, output_dim=output,
        )  # fmt: skip
    state: dict[str, Tensor] = shaken(text).state_dict()
    return state


def sd2_state(name: str) -> dict[str, Tensor]:
    torch.manual_seed(4)
    family = small(name)
    parts = {
        "model.diffusion_model.": compvis_unet(family).state_dict(),
        "first_stage_model.": compvis_first_stage(family).state_dict(),
        "cond_stage_model.model.": open_clip_state(CONTEXT, CONTEXT),
    }
    return {prefix + key: tensor for prefix, part in parts.items() for key, tensor in part.items()}


@pytest.mark.parametrize(
    ("name", "file", "prediction"),
    [
        pytest.param("sd2", "512-base-ema", "epsilon", marks=pytest.mark.long),
        ("sd2", "v2-1_768-ema-pruned", "v_prediction"),
        ("sd2-inpainting", "512-inpainting-ema", "epsilon"),
    ],
)
def test_image_of_stable_diffusion_2_equals_diffusers(
    name: str, file: str, prediction: str, only: Only, tmp_path: Path
) -> None:
    only(small(name))
    path = tmp_path / f"{file}.safetensors"
    save_file({k: v.clone().contiguous() for k, v in sd2_state(name).items()}, path)
    kind = "Inpaint" if "inpainting" in name else ""
    model = load_model(str(path), torch.device("cpu"))
    assert model.noise_schedule.prediction_type == prediction
    sampler = "plms" if kind else "ddim"  # of the scheduler of each family
    published = Published(name, f"StableDiffusion{kind}Pipeline", {}, sampler=sampler)
    pipe = from_single_file(published.pipeline, path, safety_checker=None)
    assert_equal_images(model, pipe, params_of(published))


@pytest.mark.parametrize(
    ("name", "pipeline", "changes"),
    [
        ("sdxl-inpainting", "StableDiffusionXLInpaintPipeline", {"in_channels": 9}),
        pytest.param(
            *("sdxl-edit", "StableDiffusionXLInstructPix2PixPipeline", {"in_channels": 8}),
            marks=pytest.mark.long,
        ),
        ("sdxl", "StableDiffusionXLPipeline", distilled(SSD_1B_UNET)),
        pytest.param(
            "sdxl", "StableDiffusionXLPipeline", distilled(VEGA_UNET), marks=pytest.mark.long
        ),
    ],
    ids=["sdxl-inpainting", "sdxl-edit", "ssd-1b", "segmind-vega"],
)
def test_image_of_sdxl_and_its_derivatives_equals_diffusers(
    name: str, pipeline: str, changes: dict[str, Any], only: Only, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(sdxl_state(name, only, changes), path)
    published = Published(name, pipeline, {}, {}, "euler")
    pipe = from_single_file(published.pipeline, path)
    assert_equal_images(load_model(str(path), torch.device("cpu")), pipe, params_of(published))


@pytest.mark.parametrize(
    ("name", "marks", "sampler", "schedule", "scheduler"),
    [
        ("sdxl-playground", PLAYGROUND, "dpmpp_2m", "karras", "EDMDPMSolverMultistepScheduler"),
        pytest.param(
            *("sdxl", COSXL, "euler", "exponential", "EDMEulerScheduler"), marks=pytest.mark.long
        ),
        ("sdxl-edit", COSXL, "euler", "exponential", "EDMEulerScheduler"),
    ],
    ids=["playground", "cosxl", "cosxl-edit"],
)
def test_image_of_a_model_with_edm_preconditioning_equals_diffusers(
    name: str,
    marks: dict[str, Tensor],
    sampler: str,
    schedule: str,
    scheduler: str,
    only: Only,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    edits = name == "sdxl-edit"
    save_file(sdxl_state(name, only, {"in_channels": 8} if edits else {}) | marks, path)
    pipeline = f"StableDiffusionXL{'InstructPix2Pix' if edits else ''}Pipeline"
    published = Published(name, pipeline, {}, {}, sampler, schedule)
    pipe = from_single_file(published.pipeline, path)
    assert type(pipe.scheduler).__name__ == scheduler
    model = load_model(str(path), torch.device("cpu"))
    assert_equal_images(model, pipe, params_of(published))
    added = Conversion(path, tmp_path / "added")
    assert added.run().title == model_title(name)
    folder = resolve(str(path))
    for part in ("scheduler/scheduler_config.json", "vae/config.json"):
        assert read_json(tmp_path / "added" / part) == read_json(folder / part)


def model_title(name: str) -> str:
    return next(family.title for family in families() if family.name == name)


def sdxl_state(
    name: str, only: Only, changes: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a file of SDXL with few channels, and make its family the only one."""
    torch.manual_seed(4)
    # diffusers tells the two encoders apart by their widths.
    context = 64 + 2 * POOLED
    config = narrow(SDXL, 6) | dict(changes or {}) | {"cross_attention_dim": context}
    only(narrow_family(name, context))
    where = mapping("sdxl-base.unet")
    unet = shaken(UNet2DConditionModel.from_config(config)).state_dict()
    texts = {
        "conditioner.embedders.0.transformer.": clip_state(clip_text(VOCABULARY)),
        "conditioner.embedders.1.model.": open_clip_state(2 * POOLED, POOLED),
    }
    state = {where[key]: tensor for key, tensor in unet.items()} | first_stage_state()
    state |= {prefix + key: value for prefix, part in texts.items() for key, value in part.items()}
    return {key: tensor.clone().contiguous() for key, tensor in state.items()}


def test_image_of_instruct_pix2pix_equals_diffusers(only: Only, tmp_path: Path) -> None:
    torch.manual_seed(4)
    family = small("sd1-edit")
    family = replace(family, signature=replace(family.signature, context=64))
    only(family)
    parts = {
        "model.diffusion_model.": compvis_unet(family).state_dict(),
        "first_stage_model.": compvis_first_stage(family).state_dict(),
        "cond_stage_model.transformer.": clip_state(clip_text(VOCABULARY)),
    }
    state = {prefix + key: value for prefix, part in parts.items() for key, value in part.items()}
    path = tmp_path / "instruct-pix2pix.safetensors"
    save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path)
    model = load_model(str(path), torch.device("cpu"))
    pipeline, sampler = "StableDiffusionInstructPix2PixPipeline", "euler_ancestral"
    published = Published("sd1-edit", pipeline, {}, sampler=sampler, schedule="linspace")
    pipe = from_single_file(pipeline, path, safety_checker=None)
    assert_equal_images(model, pipe, params_of(published))


def test_image_of_depth_to_image_equals_diffusers(only: Only, tmp_path: Path) -> None:
    only(small("sd2-depth"))
    path = tmp_path / "512-depth-ema.safetensors"
    state = sd2_state("sd2-depth") | {"depth_model.model.scratch.output.bias": torch.zeros(1)}
    save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path)
    model = load_model(str(path), torch.device("cpu"))
    read = from_single_file("StableDiffusionPipeline", path, safety_checker=None)
    parts = {name: read.components[name] for name in COMPONENTS} | dict.fromkeys(ESTIMATOR)
    pipe = diffusers.StableDiffusionDepth2ImgPipeline(**parts)
    published = Published("sd2-depth", "StableDiffusionDepth2ImgPipeline", {})
    assert_equal_images(model, pipe, params_of(published))


def test_image_of_the_x4_upscaler_equals_diffusers(only: Only, tmp_path: Path) -> None:
    family = small("sd2-upscaler")
    only(family)
    path = tmp_path / "x4-upscaler-ema.safetensors"
    state = sd2_state("sd2-upscaler") | {"low_scale_model.betas": torch.zeros(1000)}
    save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path)
    model = load_model(str(path), torch.device("cpu"))
    factor = model.autoencoder.config.factor  # 2, of a first stage with two levels
    image = photo(SIZE // factor, SIZE // factor)
    params = replace(
        params_of(Published("sd2-upscaler", "StableDiffusionUpscalePipeline", {}, sampler="ddim")),
        low_res=as_tensor(image),
    )
    pipe = from_single_file("StableDiffusionUpscalePipeline", path, safety_checker=None)
    assert_same_image(ours(model, params), theirs(pipe, params, image=image))


def from_single_file(pipeline: str, path: Path, **more: Any) -> Any:
    """Read a file with diffusers, by the configurations that were detected for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, pipeline).from_single_file(
            str(path), config=str(resolve(str(path))), local_files_only=True, **more
        )
