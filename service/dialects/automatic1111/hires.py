"""Hires fix and refiner: a second pass, by AUTOMATIC1111's names."""

from protocol.errors import InvalidRequest
from protocol.recipes.names import our_hires_upscaler
from protocol.request.model_card import ModelCard
from protocol.request.samplers import LATENT_MODES
from protocol.request.sizes import Size
from service.dialects.automatic1111.options import spellings
from service.dialects.automatic1111.requests import DENOISING_STRENGTH, Generation, TextToImage
from service.schemas.body_parser import Fields

NONE = "none"
NO_NETWORK = "lanczos"  # how AUTOMATIC1111 scales up by its upscaler None


def hires_fields(body: TextToImage, card: ModelCard) -> Fields:
    """Return our fields of hires fix, the size of the first pass among them.

    Raises `InvalidRequest` for a second pass in another aspect.
    """
    if not body.enable_hr:
        return {}
    first, target = _sizes(body, card)
    scale = body.hr_scale if target is None else _scale(first, target, card.size_multiple)
    strength = body.denoising_strength
    fields: Fields = {
        "hires_scale": scale,
        "hires_strength": DENOISING_STRENGTH if strength is None else strength,
    }
    if target is not None:
        fields |= {"width": first[0], "height": first[1]}
    if body.hr_second_pass_steps:
        fields["hires_steps"] = body.hr_second_pass_steps
    if upscaler := _upscaler(body.hr_upscaler):
        fields["hires_upscaler"] = upscaler
    return fields


def _sizes(body: TextToImage, card: ModelCard) -> tuple[Size, Size | None]:
    """Return the sizes of the first pass and, if it is asked for by size, of the second."""
    size = body.width or card.default_width, body.height or card.default_height
    if body.firstphase_width and body.firstphase_height:
        return (body.firstphase_width, body.firstphase_height), size
    if not body.hr_resize_x and not body.hr_resize_y:
        return size, None
    width = body.hr_resize_x or body.hr_resize_y * size[0] // size[1]
    height = body.hr_resize_y or body.hr_resize_x * size[1] // size[0]
    return size, (width, height)


def _scale(first: Size, target: Size, unit: int) -> float:
    """Return how much larger the second pass is.

    Its sides may be off the aspect by less than a `unit`; AUTOMATIC1111 would crop anything else.
    """
    scale = target[0] / first[0] if first[0] > 0 else 0.0
    if abs(first[1] * scale - target[1]) >= unit:
        bound = f"in the aspect of the first pass, {first[0]}x{first[1]}"
        raise InvalidRequest("hr_resize_x", f"{target[0]}x{target[1]}", bound, "not-supported")
    return scale


def _upscaler(name: str) -> str | None:
    """Return our name of an upscaler, None for our default; AUTOMATIC1111's is Latent."""
    if name.lower() == NONE:
        return NO_NETWORK
    return our_hires_upscaler(name or LATENT_MODES["latent"].label)


def refiner_fields(body: Generation, card: ModelCard) -> Fields:
    """Return our fields of a refiner; at a switch point of 1 it is not used."""
    start = body.refiner_switch_at
    if body.refiner_checkpoint.lower() in ("", NONE) or (start is not None and start >= 1):
        return {}
    asked = body.refiner_checkpoint
    name = next((one for one in spellings(asked) if one in card.refiners), asked)
    return {"refiner": name, **({} if start is None else {"refiner_start": start})}
