"""Sizes that a model can generate, for clients that name an aspect or send an image of any size."""

import math
import re

from protocol.errors import InvalidRequest
from protocol.request.inpainting import InpaintArea, ResizeMode
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size, padded_size, same_aspect
from service.schemas.body_parser import Fields

AUTO = "auto"
ASPECT = 8  # how much more it counts that the aspect is right than the area
RATIO = re.compile(r"\s*([0-9]{1,4})\s*[:/x]\s*([0-9]{1,4})\s*")


def asked_ratio(field: str, text: object) -> Size | None:
    """Return an aspect such as 16:9, None for auto or no text. Raises `InvalidRequest`."""
    if text in (None, "", AUTO):
        return None
    found = RATIO.fullmatch(text) if isinstance(text, str) else None
    if found is None or not (int(found[1]) and int(found[2])):
        raise InvalidRequest(field, text, "an aspect such as 16:9", "malformed")
    return int(found[1]), int(found[2])


def sides(size: Size | None) -> Fields:
    """Return our fields for a size; none for no size."""
    return {} if size is None else {"width": size[0], "height": size[1]}


def size_in(ours: Fields) -> Size | None:
    """Return the size that our fields have; None without both sides as whole numbers."""
    width, height = ours.get("width"), ours.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def fitted(image: Size, size: Size | None, ours: Fields, card: ModelCard) -> Fields:
    """Return our fields by which an image gets a size that the model can generate.

    `size` is the one that was asked for, `ours` the other fields. An image of another aspect is
    cut, unless the request says otherwise.
    """
    if ours.get("inpaint_area") == InpaintArea.MASKED or "tile_size" in ours:
        return {}
    if size is None and not ours.keys() & {"width", "height"}:
        return sides(size_of_edit(image, card))
    if size is None or "resize_mode" in ours or same_aspect(image, size):
        return {}
    return {"resize_mode": ResizeMode.CROP}


def size_of_edit(image: Size, card: ModelCard) -> Size | None:
    """Return the size for an edit of an image; None: the image keeps its own size."""
    return best_size(image, card) if padded_size(card, image) is None else None


def best_size(ratio: Size, card: ModelCard) -> Size:
    """Return the size nearest to an aspect, and about as large as the model's default."""
    unit = card.size_multiple
    area = card.default_width * card.default_height
    lowest = -(-card.min_side // unit)
    candidates = [
        (width * unit, height * unit)
        for width in range(lowest, card.max_side // unit + 1)
        if (height := max(lowest, round(width * ratio[1] / ratio[0])))
        and card.allows_size(width * unit, height * unit)
    ]

    def distance(size: Size) -> float:
        aspect = math.log(size[0] * ratio[1] / (size[1] * ratio[0]))
        return ASPECT * abs(aspect) + abs(math.log(size[0] * size[1] / area))

    return min(candidates, key=distance, default=(card.default_width, card.default_height))
