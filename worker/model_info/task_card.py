"""Fields of a model's card that depend on its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.checkpoints.checkpoint import read_json
from models.conditioners.clip import ClipConditioner
from models.conditioners.concat_conditioning import (
    DepthConditioning,
    LowResolutionConditioning,
    NoisyImageConditioning,
    SemanticMapConditioning,
)
from models.conditioners.unconditional import ClassConditioner, LayoutConditioner, Unconditional
from models.loading.pipelines import PIPELINES
from models.pipeline import LatentDiffusion
from models.samplers.edm_schedule import EdmSchedule

LARGEST_UPSCALED = 2048  # side in pixels of the largest square image that may be upscaled

# Steps and guidance of the published scripts and notebooks (CompVis/latent-diffusion), all with
# DDIM. For values that are not named, the card's own defaults apply.
_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "LDMPipeline": {"default_steps": 200},
    "LDMTextToImagePipeline": {"default_steps": 200, "default_guidance_scale": 5.0},
    "LDMSuperResolutionPipeline": {"default_steps": 100, "default_eta": 1.0},
    "LatentDiffusionClassPipeline": {"default_steps": 20, "default_guidance_scale": 3.0},
    "LatentDiffusionInpaintPipeline": {"default_steps": 50},
    "LatentDiffusionLayoutPipeline": {"default_steps": 200},
    "LatentDiffusionSemanticPipeline": {"default_steps": 200},
}
# SDXL's refiner was trained on the last fifth of the noise levels, so it needs an initial image.
_REFINER = {
    "tasks": ("img2img", "inpaint", "outpaint"),
    "reads_aesthetic_score": True,
    "default_strength": 0.3,
}
# Models distilled with guidance (Luo et al. 2023); the defaults of diffusers' pipeline for them.
_DISTILLED = {
    "default_steps": 4,
    "default_guidance_scale": 8.5,
    "default_sampler": "lcm",
    "default_schedule": "lcm",
}
# Playground v2.5 (Li et al. 2024): the defaults of its published card.
_PLAYGROUND = {"default_steps": 50, "default_guidance_scale": 3.0}
# Brooks et al. 2023, and diffusers' pipelines for both networks that edit images.
_EDIT = {"default_steps": 100, "default_image_guidance_scale": 1.5, "default_strength": 1.0}
_EDIT_SDXL_GUIDANCE_SCALE = 5.0
# The defaults of diffusers' pipelines.
_UPSCALER = {"default_steps": 75, "default_guidance_scale": 9.0}
_NOISE_LEVEL = 20
_DEPTH = {"reads_depth_map": True, "default_steps": 50, "default_strength": 0.8}
_UNGUIDED = {"default_guidance_scale": 1.0, "max_guidance_scale": 1.0}


def _upscaling(model: LatentDiffusion) -> dict[str, Any]:
    """Return the fields of a model that upscales images of any size, in patches."""
    return {
        "upscale_factor": model.autoencoder.config.factor,
        "max_side": 2 * LARGEST_UPSCALED,
        "max_pixels": LARGEST_UPSCALED**2,
    }


def task_fields(model: LatentDiffusion) -> dict[str, Any]:
    """Return the fields of the card of `model` that depend on its pipeline and conditioning."""
    pipeline = str(read_json(model.folder / "model_index.json")["_class_name"])
    fields: dict[str, Any] = {"tasks": PIPELINES[pipeline].tasks, **_PUBLISHED.get(pipeline, {})}
    if pipeline in _PUBLISHED:
        fields["family"] = "ldm"
    match model.conditioner:
        case ClipConditioner(refiner=True):
            fields |= _REFINER
        case ClassConditioner(classes=classes, guided=guided):
            fields |= {"classes": classes, **({} if guided else _UNGUIDED)}
        case LayoutConditioner(classes=classes, max_boxes=most):
            fields |= {"classes": classes, "max_boxes": most, **_UNGUIDED}
        case Unconditional():
            fields |= _UNGUIDED
    match model.concat_conditioning:
        case SemanticMapConditioning(classes=classes):
            fields["classes"] = classes
        case DepthConditioning():
            fields |= _DEPTH
        case LowResolutionConditioning():
            fields |= _upscaling(model)
        case NoisyImageConditioning(max_level=most):
            level = min(_NOISE_LEVEL, most)
            levels = {"default_noise_level": level, "max_noise_level": most}
            fields |= _upscaling(model) | _UPSCALER | levels
    if model.unet.config.time_cond_proj_dim is not None:
        fields |= _DISTILLED
    if isinstance(model.noise_schedule, EdmSchedule) and model.autoencoder.config.statistics:
        fields |= _PLAYGROUND
    if model.is_edit:
        fields |= _EDIT
        if model.is_sdxl:
            fields["default_guidance_scale"] = _EDIT_SDXL_GUIDANCE_SCALE
    if model.is_inpainting:
        fields["default_strength"] = 1.0
    return fields
