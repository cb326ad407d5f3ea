"""Translation of requests of version 2: from Stability's fields to ours."""

import math

from fastapi import Request

from protocol.errors import InvalidRequest
from protocol.request.inpainting import MaskedContent, MaskMode, MaskSource
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size
from protocol.request.tasks import Task
from protocol.request.tiles import UPSCALER
from service.dialects.sizes import asked_ratio, best_size
from service.dialects.stability.engines import engine_card, upscaler_named
from service.dialects.stability.translation import (
    MASK_STRENGTH,
    Translation,
    fitted_fields,
    image_size,
    seed_field,
    style_fields,
)
from service.dialects.stability.v2_requests import (
    V2Erase,
    V2Generate,
    V2Inpaint,
    V2Outpaint,
    V2Request,
    V2Upscale,
    V2UpscaleFast,
)
from service.routes.deps import Services
from service.schemas.body_parser import Fields

FAST_SCALE = 4
UPSCALED_PIXELS, UPSCALED_TILES = 2**22, 512  # 4 megapixels, fewer of a model with tiny tiles
ERASE_STRENGTH = 0.75  # of what the surroundings have filled in
# Our names of fields and Stability's.
NAMES = {
    "guidance_scale": "cfg_scale",
    "top": "up",
    "bottom": "down",
    "mask_grow": "grow_mask",
    "loras": "style_preset",
    "upscaler": "model",
}


async def generate(asked: V2Generate, request: Request, services: Services) -> Translation:
    """Return a request for an image of a prompt, or like another. Raises `InvalidRequest`."""
    task = _task(asked)
    card = await engine_card(services.submitter.models, task, asked.model)
    fields = _common(asked, card, request) | _prompts(asked)
    if asked.cfg_scale is not None:
        fields["guidance_scale"] = asked.cfg_scale
    if asked.image is not None:
        fields |= await fitted_fields(task, asked.image, card, services)
        fields |= {"image": asked.image, "strength": asked.strength}
    elif ratio := asked_ratio("aspect_ratio", asked.aspect_ratio):
        fields["width"], fields["height"] = best_size(ratio, card)
    return Translation(task, fields, NAMES)


def _task(asked: V2Generate) -> Task:
    """Return the task of a request. Raises `InvalidRequest` for fields that another one has."""
    if asked.mode == "image-to-image" and asked.image is None:
        bound = "given, as mode is image-to-image"
        raise InvalidRequest("image", None, bound, "missing-field")
    if asked.image is None:
        _check_absent(asked, "strength", "there is no image")
        return Task.TXT2IMG
    if asked.mode == "text-to-image":
        raise InvalidRequest("image", "given", "left out, as mode is text-to-image", "not-together")
    _check_absent(asked, "aspect_ratio", "the result has the aspect of the image")
    return Task.IMG2IMG


def _check_absent(asked: V2Generate, field: str, reason: str) -> None:
    value = getattr(asked, field)
    if value is not None:
        raise InvalidRequest(field, value, f"left out: {reason}", "not-together")


async def inpaint(asked: V2Inpaint, request: Request, services: Services) -> Translation:
    """Return a request to generate what a mask marks. Raises `InvalidRequest`."""
    fields = await _masked(asked, request, services)
    return Translation(Task.INPAINT, fields | _prompts(asked) | {"strength": MASK_STRENGTH}, NAMES)


async def erase(asked: V2Erase, request: Request, services: Services) -> Translation:
    """Return a request to remove what a mask marks. Raises `InvalidRequest`.

    The marked part is filled from its surroundings and generated without a prompt.
    """
    fields = await _masked(asked, request, services)
    fields |= {"masked_content": MaskedContent.FILL.value, "strength": ERASE_STRENGTH}
    return Translation(Task.INPAINT, fields | {"prompt": ""}, NAMES)


async def _masked(asked: V2Erase, request: Request, services: Services) -> Fields:
    card = await engine_card(services.submitter.models, Task.INPAINT, asked.model)
    fields = _common(asked, card, request) | {
        "image": asked.image,
        "mask_mode": MaskMode.SOFT.value,
        "mask_grow": asked.grow_mask,
        "mask_blur": -(-asked.grow_mask // 2),
        **await fitted_fields(Task.INPAINT, asked.image, card, services),
    }
    if asked.mask is None:
        return fields | {"mask_source": MaskSource.ALPHA.value}
    return fields | {"mask": asked.mask}


async def outpaint(asked: V2Outpaint, request: Request, services: Services) -> Translation:
    """Return a request to continue an image over its edges. Raises `InvalidRequest`."""
    card = await engine_card(services.submitter.models, Task.OUTPAINT, asked.model)
    fields = _common(asked, card, request) | _prompts(asked)
    fields |= {"image": asked.image, "left": asked.left, "right": asked.right}
    fields |= {"top": asked.up or asked.top, "bottom": asked.down or asked.bottom}
    if asked.creativity is not None:
        fields["strength"] = 0.5 + asked.creativity / 2
    return Translation(Task.OUTPAINT, fields, NAMES)


async def upscale_fast(asked: V2UpscaleFast, request: Request, services: Services) -> Translation:
    """Return a request to enlarge an image four times. Raises `InvalidRequest`."""
    named = await upscaler_named(services.submitter.models, asked.model)
    fields = {
        **seed_field(asked.seed, 1, request),
        **_output_format(asked),
        "image": asked.image,
        "upscaler": named or asked.model,  # which is refused with those that there are
        "scale": FAST_SCALE,
    }
    return Translation(Task.UPSCALE, fields, NAMES)


async def upscale(asked: V2Upscale, request: Request, services: Services) -> Translation:
    """Return a request to enlarge an image and to change it in tiles. Raises `InvalidRequest`."""
    models = services.submitter.models
    card = await engine_card(models, Task.IMG2IMG, asked.model)
    size = await image_size("image", asked.image, services)
    fields = _common(asked, card, request) | _prompts(asked)
    fields |= {
        "image": asked.image,
        "strength": asked.creativity,
        "tile_size": min(card.default_width, card.default_height),
        "upscaler": next((one.name for one in card.upscalers), UPSCALER),
        "width": _upscaled_width(size, card),
    }
    return Translation(Task.IMG2IMG, fields, NAMES | {"strength": "creativity", "width": "image"})


def _upscaled_width(image: Size, card: ModelCard) -> int:
    """Return the width with which an image of this aspect has 4 megapixels, or has its own size."""
    tile = min(card.default_width, card.default_height)
    pixels = min(UPSCALED_PIXELS, UPSCALED_TILES * tile**2)
    scale = max(1.0, math.sqrt(pixels / (image[0] * image[1])))
    unit = card.size_multiple
    return round(image[0] * scale / unit) * unit


def _prompts(asked: V2Generate | V2Inpaint | V2Outpaint | V2Upscale) -> Fields:
    return {"prompt": asked.prompt, "negative_prompt": asked.negative_prompt}


def _common(asked: V2Request, card: ModelCard, request: Request) -> Fields:
    return {
        "model": card.name,
        **seed_field(asked.seed, 1, request),
        **_output_format(asked),
        **style_fields(asked.style_preset, card),
    }


def _output_format(asked: V2Request) -> Fields:
    return {} if asked.output_format is None else {"output_format": asked.output_format}
