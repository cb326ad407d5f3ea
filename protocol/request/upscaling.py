"""Upscaling of an image by upscalers: networks that the operator has added, or filters."""

import secrets
from collections.abc import Collection, Iterable, Mapping

from protocol.errors import InvalidRequest
from protocol.record import common_fields
from protocol.request.fields import MAX_SIDE, MAX_UPSCALED_PIXELS, SEED_LIMIT
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.model_card import MAX_NAMES, ModelCard
from protocol.request.prompts import PromptSyntax
from protocol.request.request import GenerationRequest, Upscaling
from protocol.request.sizes import Size
from protocol.request.tasks import Task

FILTERS = ("lanczos", "nearest")  # without a network
FILTER_SCALE = 4  # where the request names none
MAX_PASSES = 3  # of a network that is smaller than the scale
BLEND = 0.5

# Fields of models, which have no effect on an upscaler.
_SAMPLING = (
    "prompt",
    "negative_prompt",
    "noise_level",
    "steps",
    "sampler",
    "schedule",
    "eta",
    "guidance_scale",
    "guidance_rescale",
    "guidance_start",
    "guidance_end",
    "clip_skip",
    "decoder",
    "loras",
    "refiner_start",
    "aesthetic_score",
    "hires_steps",
    "hires_strength",
    "hires_upscaler",
    "audio_format",
)
_NOT_ALONE = ("upscaler_2", "upscaler_blend", "scale")


def asked_upscalers(params: GenerationParams) -> dict[str, str]:
    """Return the networks that upscale an image, by their fields; filters need none."""
    named = {"upscaler": params.upscaler, "upscaler_2": params.upscaler_2}
    return {field: name for field, name in named.items() if name and name not in FILTERS}


def check_upscaler(field: str, name: str, card: ModelCard, others: Collection[str] = ()) -> None:
    """Raise `InvalidRequest` if `name` is no filter, no upscaler of the card, none of `others`."""
    if name not in (*FILTERS, *others, *upscaler_scales(card)):
        bound = upscalers_bound([*others, *upscaler_scales(card)])
        raise InvalidRequest(field, name, bound, "unknown-upscaler")


def upscalers_bound(names: Iterable[str]) -> str:
    """Return a bound for an error message: the upscalers, up to `MAX_NAMES`."""
    known = [*FILTERS, *names]
    more = len(known) - MAX_NAMES
    return f"one of {', '.join(known[:MAX_NAMES])}" + (f" and {more} more" if more > 0 else "")


def check_no_upscaling(params: GenerationParams) -> None:
    """Raise `InvalidRequest` for fields that belong to an upscaler, where none is named."""
    for field in _NOT_ALONE:
        if (value := getattr(params, field)) is not None:
            raise InvalidRequest(field, value, "absent, as upscaler is", "not-without-another")


def resolve_upscaling(
    params: GenerationParams, card: ModelCard, image: InputImage
) -> GenerationRequest:
    """Return the request to upscale `image`, in the queue of the model of `card`.

    Raises `InvalidRequest` for an unknown upscaler, a size out of bounds, and fields that have no
    effect on upscalers.
    """
    assert params.upscaler is not None
    _check_fields(params)
    upscaling = _upscaling(params, card)
    width, height = _size(params, card, upscaling, (image.width, image.height))
    changed = {
        "task": Task.UPSCALE,
        "model": card.name,
        "width": width,
        "height": height,
        "steps": 1,
        "eta": 0.0,
        "sampler": card.default_sampler,
        "schedule": card.default_schedule,
        "guidance_scale": 1.0,
        "seed": secrets.randbelow(SEED_LIMIT) if params.seed is None else params.seed,
        "strength": None,
        "image_key": image.key,
        "prompt_syntax": PromptSyntax.WEIGHTS,  # there is no prompt
        "boxes": None,
        "controls": (),
        "upscaling": upscaling,
    }
    return GenerationRequest.model_validate(common_fields(params, GenerationRequest) | changed)


def size_by_upscaler(params: GenerationParams, card: ModelCard, image: Size) -> Size:
    """Return the size of the image that an upscaler makes.

    Raises `InvalidRequest` for an unknown upscaler and a size out of bounds; those of the model do
    not matter.
    """
    return _size(params, card, _upscaling(params, card), image)


def _check_fields(params: GenerationParams) -> None:
    for field in _SAMPLING:
        value = getattr(params, field)
        if value not in (None, type(params).model_fields[field].default):
            is_text = field in ("prompt", "negative_prompt")  # which no error shows
            shown = value if isinstance(value, int | float | str) and not is_text else "given"
            raise InvalidRequest(
                field, shown, "absent: it has no effect on an upscaler", "not-for-this-task"
            )
    if params.n != 1:
        bound = "1: an upscaler makes one image of an image"
        raise InvalidRequest("n", params.n, bound, "too-many-images")


def _upscaling(params: GenerationParams, card: ModelCard) -> Upscaling:
    assert params.upscaler is not None
    check_upscaler("upscaler", params.upscaler, card)
    if params.upscaler_2 is not None:
        check_upscaler("upscaler_2", params.upscaler_2, card)
    elif params.upscaler_blend is not None:
        bound = "absent, as upscaler_2 is"
        raise InvalidRequest("upscaler_blend", params.upscaler_blend, bound, "not-without-another")
    blend = BLEND if params.upscaler_blend is None else params.upscaler_blend
    scale = params.scale or upscaler_scales(card).get(params.upscaler, FILTER_SCALE)
    return Upscaling(
        upscaler=params.upscaler, upscaler_2=params.upscaler_2, blend=blend, scale=scale
    )


def _size(params: GenerationParams, card: ModelCard, upscaling: Upscaling, image: Size) -> Size:
    """Return the size of the result. Raises `InvalidRequest` if it or a step to it is too large."""
    scales = upscaler_scales(card)
    assert upscaling.scale is not None
    size = scaled(image, upscaling.scale)
    largest = [size, *(_reached(image, size, scales.get(n, 1)) for n in upscaling.names)]
    for width, height in largest:
        if max(width, height) > MAX_SIDE or width * height > MAX_UPSCALED_PIXELS:
            bound = (
                f"so that {width}x{height}, which it takes, has sides up to {MAX_SIDE} and at most "
                f"{MAX_UPSCALED_PIXELS} pixels"
            )
            field, value = ("scale", params.scale) if params.scale else ("image", _text(image))
            raise InvalidRequest(field, value, bound, "too-many-pixels")
    return size


def scaled(image: Size, scale: float) -> Size:
    """Return a size multiplied by `scale`, in whole pixels."""
    width, height = (max(1, round(side * scale)) for side in image)
    return width, height


def _reached(size: Size, target: Size, scale: int) -> Size:
    """Return the size of the output of a network's last pass."""
    for done in range(MAX_PASSES):
        if done and (scale == 1 or (size[0] >= target[0] and size[1] >= target[1])):
            break
        size = (scale * size[0], scale * size[1])
    return size


def upscaler_scales(card: ModelCard) -> Mapping[str, int]:
    """Return how much each upscaler of the card enlarges, by name."""
    return {upscaler.name: upscaler.scale for upscaler in card.upscalers}


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
