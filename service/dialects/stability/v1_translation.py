"""Translation of requests of version 1: from Stability's fields to ours."""

import math

from fastapi import Request

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.fields import MAX_SCALE
from protocol.request.inpainting import MaskMode, MaskSource
from protocol.request.model_card import ModelCard
from protocol.request.multi_pass import least_strength
from protocol.request.tasks import Task
from service.dialects.sampler_names import sampler_fields
from service.dialects.stability.engines import engine_card, upscaler_named
from service.dialects.stability.text_prompts import prompt_fields
from service.dialects.stability.translation import (
    MASK_STRENGTH,
    Translation,
    fitted_fields,
    image_size,
    seed_field,
    style_fields,
)
from service.dialects.stability.v1_requests import (
    V1Generation,
    V1ImageToImage,
    V1Masking,
    V1Request,
    V1TextToImage,
    V1Upscale,
)
from service.routes.deps import Services
from service.schemas.body_parser import Fields

SCALE = 2  # of an enlargement without a size
DECIMALS = 6  # of a strength
# Our names of fields and Stability's, whose engine is a part of the path.
NAMES = {
    "model": "engine_id",
    "n": "samples",
    "guidance_scale": "cfg_scale",
    "prompt": "text_prompts",
    "negative_prompt": "text_prompts",
    "schedule": "sampler",
    "loras": "style_preset",
    "output_format": "Accept",
    "mask": "mask_image",
}
OF_IMAGES = NAMES | {"image": "init_image"}


async def text_to_image(
    asked: V1TextToImage, engine: str, request: Request, services: Services
) -> Translation:
    """Return a request for images of prompts. Raises `InvalidRequest` and `NotReady`."""
    card = await engine_card(services.submitter.models, Task.TXT2IMG, engine)
    fields = _common(asked, card, request) | prompt_fields(asked.text_prompts)
    if asked.width or asked.height:
        fields["width"] = asked.width or card.default_width
        fields["height"] = asked.height or card.default_height
    return Translation(Task.TXT2IMG, fields, NAMES)


async def image_to_image(
    asked: V1ImageToImage, engine: str, request: Request, services: Services
) -> Translation:
    """Return a request for images like another. Raises `InvalidRequest` and `NotReady`."""
    card = await engine_card(services.submitter.models, Task.IMG2IMG, engine)
    fields = await _of_image(Task.IMG2IMG, asked, asked.init_image, card, request, services)
    if asked.init_image_mode == "STEP_SCHEDULE":
        fields["strength"] = asked.step_schedule_start
        return Translation(Task.IMG2IMG, fields, OF_IMAGES | {"strength": "step_schedule_start"})
    fields["strength"] = _strength(asked, card)
    return Translation(Task.IMG2IMG, fields, OF_IMAGES)


async def masking(
    asked: V1Masking, engine: str, request: Request, services: Services
) -> Translation:
    """Return a request to generate a part of an image. Raises `InvalidRequest` and `NotReady`."""
    card = await engine_card(services.submitter.models, Task.INPAINT, engine)
    fields = await _of_image(Task.INPAINT, asked, asked.init_image, card, request, services)
    fields |= {"mask_mode": MaskMode.SOFT.value, "strength": MASK_STRENGTH}
    if asked.mask_source == "INIT_IMAGE_ALPHA":
        return Translation(
            Task.INPAINT, fields | {"mask_source": MaskSource.ALPHA.value}, OF_IMAGES
        )
    if asked.mask_image is None:
        bound = f"given, as mask_source is {asked.mask_source}"
        raise InvalidRequest("mask_image", None, bound, "mask-missing")
    fields |= {"mask": asked.mask_image, "mask_invert": asked.mask_source == "MASK_IMAGE_BLACK"}
    return Translation(Task.INPAINT, fields, OF_IMAGES)


async def upscale(
    asked: V1Upscale, engine: str, request: Request, services: Services
) -> Translation:
    """Return a request to enlarge an image. Raises `InvalidRequest` and `NotReady`."""
    if asked.width and asked.height:
        bound = "left out, as width is given: the image keeps its aspect"
        raise InvalidRequest("height", asked.height, bound, "not-together")
    if asked.text_prompts:
        bound = "left out: what upscales here reads no prompts"
        raise InvalidRequest("text_prompts", "given", bound, "not-supported")
    models = services.submitter.models
    upscaler = await upscaler_named(models, engine)
    card = None if upscaler else await engine_card(models, Task.UPSCALE, engine)
    fields = _sampling(asked) | seed_field(asked.seed, asked.samples, request)
    width, height = await image_size("image", asked.image, services)
    field = "height" if asked.height else "width"
    side = height if asked.height else width
    size = asked.height or asked.width or SCALE * side
    if card is not None:
        _check_factor(field, getattr(asked, field), side, card)
        fields |= {"model": card.name}
    else:
        _check_scale(field, size, side)
        fields |= {"upscaler": upscaler, "scale": size / side}
    names = NAMES | {"upscaler": "engine_id"}
    return Translation(Task.UPSCALE, fields | {"image": asked.image}, names)


def _check_scale(field: str, size: int, side: int) -> None:
    """Raise `InvalidRequest` for a size that is smaller than the image, or far larger."""
    if not side <= size <= MAX_SCALE * side:
        bound = f"from {side}, that of the image, to {int(MAX_SCALE)} times that"
        raise InvalidRequest(field, size, bound, "out-of-range")


def _check_factor(field: str, size: int | None, side: int, card: ModelCard) -> None:
    """Raise `InvalidRequest` for another size than a model makes of an image."""
    made = card.upscale_factor * side
    if size not in (None, made):
        bound = f"{made}, or left out: {card.name} upscales by {card.upscale_factor}"
        raise InvalidRequest(field, size, bound, "size-not-possible")


def _sampling(asked: V1Request) -> Fields:
    """Return the fields of sampling that were sent."""
    fields: Fields = {"n": asked.samples}
    if asked.sampler is not None:
        fields |= sampler_fields(asked.sampler)
    if asked.steps is not None:
        fields["steps"] = asked.steps
    if asked.cfg_scale is not None:
        fields["guidance_scale"] = asked.cfg_scale
    return fields


def _common(asked: V1Request, card: ModelCard, request: Request) -> Fields:
    return {
        "model": card.name,
        **_sampling(asked),
        **seed_field(asked.seed, asked.samples, request),
        **style_fields(asked.style_preset, card),
    }


async def _of_image(
    task: Task,
    asked: V1Generation,
    image: bytes,
    card: ModelCard,
    request: Request,
    services: Services,
) -> Fields:
    request.scope["field_names"] = OF_IMAGES
    fitted = await fitted_fields(task, image, card, services)
    prompts = prompt_fields(asked.text_prompts)
    return _common(asked, card, request) | prompts | {"image": image} | fitted


def _strength(asked: V1ImageToImage, card: ModelCard) -> float:
    """Return how much an image is to change. Raises `InvalidRequest` if that leaves no step."""
    strength = round(1 - asked.image_strength, DECIMALS)
    steps = asked.steps or card.default_steps
    if int(steps * strength) < 1:
        most = math.floor(10**DECIMALS * (1 - least_strength(steps))) / 10**DECIMALS
        bound = f"at most {exact(most)}, which leaves one of {steps} steps"
        raise InvalidRequest("image_strength", asked.image_strength, bound, "strength-too-large")
    return strength
