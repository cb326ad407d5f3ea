"""The translation of a request of txt2img or img2img into ours. Pure: no Redis, no HTTP."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.errors import InvalidRequest
from protocol.recipes.infotext import parse_infotext
from protocol.recipes.recipe import recipe_of_infotext
from protocol.request.model_card import ModelCard
from protocol.request.prompts import without_loras
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task
from service.dialects.automatic1111.controlnet.modules import Module
from service.dialects.automatic1111.controlnet.units import control_fields
from service.dialects.automatic1111.hires import hires_fields, refiner_fields
from service.dialects.automatic1111.inpainting import image_fields
from service.dialects.automatic1111.options import Options, option_fields
from service.dialects.automatic1111.requests import (
    DENOISING_STRENGTH,
    Generation,
    ImageToImage,
    TextToImage,
)
from service.dialects.automatic1111.sampling import sampling_fields
from service.dialects.automatic1111.scripts import controlnet_arguments
from service.dialects.automatic1111.unsupported import check_supported
from service.schemas.body_parser import Fields

# Our fields by the names that the client knows them by, for errors.
CLIENT_NAMES = {
    "n": "batch_size",
    "guidance_scale": "cfg_scale",
    "image_guidance_scale": "image_cfg_scale",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "strength": "denoising_strength",
    "noise_multiplier": "initial_noise_multiplier",
    "model": "sd_model_checkpoint",
    "clip_skip": "CLIP_stop_at_last_layers",
    "quality": "jpeg_quality",
    "output_format": "samples_format",
    "response": "send_images",
    "image": "init_images",
    "image_url": "init_images",
    "mask_url": "mask",
    "mask_invert": "inpainting_mask_invert",
    "masked_content": "inpainting_fill",
    "inpaint_area": "inpaint_full_res",
    "mask_padding": "inpaint_full_res_padding",
    "hires_scale": "hr_scale",
    "hires_steps": "hr_second_pass_steps",
    "hires_strength": "denoising_strength",
    "hires_upscaler": "hr_upscaler",
    "refiner": "refiner_checkpoint",
    "refiner_start": "refiner_switch_at",
    "controls": "alwayson_scripts.ControlNet.args",
}
LYCORIS = re.compile(r"<lyco:", re.IGNORECASE)  # an older name of LoRAs in prompts
# Prompt syntax that is not done: hypernetworks, [from:to:when] and [one|another].
UNSUPPORTED = re.compile(
    r"<hypernet:[^<>]{1,200}>"
    r"|(?<!\\)\[[^\[\]]{0,200}:\s*[0-9.]{1,20}\s*\]"
    r"|(?<!\\)\[[^\[\]|]{0,200}\|[^\[\]]{0,200}\]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Translation:
    """Our fields of a request, the client's names of those that differ, and the preprocessors of
    its control images."""

    fields: Fields
    names: Mapping[str, str]
    modules: Sequence[Module] = ()


def task_of(body: Generation) -> Task:
    """Return the task: img2img with a mask is inpainting."""
    if not isinstance(body, ImageToImage):
        return Task.TXT2IMG
    return Task.INPAINT if body.mask else Task.IMG2IMG


def translate(
    body: Generation, options: Options, model: str | None, card: ModelCard
) -> Translation:
    """Return our fields for a request to the model of `card`; `model` is its name, if chosen.

    Raises `InvalidRequest`, in the client's names, for what cannot be done.
    """
    check_supported(body)
    controls = control_fields(controlnet_arguments(body), body)
    fields: Fields = {
        **({"strength": DENOISING_STRENGTH} if isinstance(body, ImageToImage) else {}),
        **_of_infotext(body.infotext, task_of(body)),
        **_common_fields(body),
        **sampling_fields(body, card),
        **option_fields(options, model),
        **refiner_fields(body, card),
        **controls.fields,
    }
    if isinstance(body, TextToImage):
        fields |= hires_fields(body, card)
    if isinstance(body, ImageToImage):
        fields |= image_fields(body, options)
        if card.default_image_guidance_scale is not None and body.image_cfg_scale is not None:
            fields["image_guidance_scale"] = body.image_cfg_scale
    return Translation(fields, CLIENT_NAMES | controls.names, controls.modules)


def _common_fields(body: Generation) -> Fields:
    """Return what is given of the fields that every task has. Prompts are always there."""
    given = {
        "steps": body.steps,
        "guidance_scale": body.cfg_scale,
        "width": body.width,
        "height": body.height,
    }
    fields: Fields = {name: value for name, value in given.items() if value is not None}
    for name in ("prompt", "negative_prompt"):
        if name in body.model_fields_set or not body.infotext:
            fields[name] = _prompt(name, getattr(body, name), body.disable_extra_networks)
    if "seed" in body.model_fields_set:
        fields["seed"] = body.seed
    if body.batch_size < 1 or body.n_iter < 1:
        name = "batch_size" if body.batch_size < 1 else "n_iter"
        raise InvalidRequest(name, getattr(body, name), "at least 1", "out-of-range")
    return fields | {"n": body.batch_size * body.n_iter}


def _prompt(name: str, text: str, without_networks: bool) -> str:
    """Return a prompt in our syntax. Raises `InvalidRequest` for syntax that is not done here."""
    if found := UNSUPPORTED.search(text):
        bound = "without hypernetworks, [from:to:when] and [one|another], which are not done here"
        raise InvalidRequest(name, found[0], bound, "not-supported")
    text = LYCORIS.sub("<lora:", text)
    return without_loras(text) if without_networks else text


def _of_infotext(text: str, task: Task) -> Fields:
    """Return the fields of an infotext that the task takes."""
    recipe = recipe_of_infotext(parse_infotext(text)) if text else None
    if recipe is None:
        return {}
    unused = TASK_FIELDS - FIELDS_OF[task] | {"image", "mask", "controls", "model"}
    return {name: value for name, value in recipe.fields.items() if name not in unused}
