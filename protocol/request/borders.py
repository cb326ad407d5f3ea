"""The border that a request adds to its image: sent in pixels, or as the size of the result."""

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_SIDE, MAX_UPSCALED_PIXELS
from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import MaskedContent
from protocol.request.model_card import ModelCard
from protocol.request.outpainting import OVERLAP, Anchor, Outpainting, outpainting
from protocol.request.sizes import Size

SIDES = ("left", "top", "right", "bottom")
AXES = {"width": ("left", "right"), "height": ("top", "bottom")}
MAX_ROUNDS = 1024  # of one image
BLEND = 16  # by default the blended edge has 1 / BLEND of a window's smaller side
LEAST_KEPT = 4  # of which an image's side has this many shares, so that most of it is kept

Borders = tuple[int, int, int, int]  # left, top, right, bottom


def resolve_outpainting(params: GenerationParams, card: ModelCard, image: Size) -> Outpainting:
    """Return the canvas of an image with its border, and its windows.

    Raises `InvalidRequest` for a border that adds nothing, is too large or is sent twice.
    """
    if params.width is None and params.height is None:
        if params.anchor is not None:
            bound = "absent, as neither width nor height is given"
            raise InvalidRequest("anchor", params.anchor.value, bound, "not-without-another")
        borders = _sent(params)
    else:
        borders = _around(params, image)
    if params.masked_content is MaskedContent.ORIGINAL:
        bound = "fill, noise or nothing: a border has no original content"
        raise InvalidRequest("masked_content", "original", bound, "not-for-this-task")
    _check_size(params, borders, image)
    window = card.default_width, card.default_height
    found = outpainting(image, borders, window, _blend(params, borders, image, window))
    if (count := found.round_count) > MAX_ROUNDS:
        bound = (
            f"so small that at most {MAX_ROUNDS} rounds of {window[0]}x{window[1]} generate it, "
            f"not {count}"
        )
        raise _too_large(params, borders, bound, "too-many-rounds")
    return found


def _sent(params: GenerationParams) -> Borders:
    """Return the borders that the request has."""
    left, top, right, bottom = (getattr(params, side) or 0 for side in SIDES)
    if left + top + right + bottom == 0:
        first = next((side for side in SIDES if getattr(params, side) is not None), "left")
        bound = (
            "above 0, or one of left, right, top and bottom, or width and height above the image's"
        )
        raise InvalidRequest(first, getattr(params, first), bound, "nothing-to-add")
    return left, top, right, bottom


def _around(params: GenerationParams, image: Size) -> Borders:
    """Return the borders up to the requested size; a side that is not requested stays."""
    for side in SIDES:
        if (value := getattr(params, side)) is not None:
            bound = "absent, for width or height is given"
            raise InvalidRequest(side, value, bound, "not-with-another")
    width, height = params.width or image[0], params.height or image[1]
    for field, asked, own in zip(AXES, (width, height), image, strict=True):
        if asked < own:
            bound = f"at least {own}, as the image is {image[0]}x{image[1]}"
            raise InvalidRequest(field, asked, bound, "smaller-than-the-image")
    if (width, height) == image:
        field = "height" if params.width is None else "width"
        bound = f"above the image's, or the other side: the image is {image[0]}x{image[1]}"
        raise InvalidRequest(field, getattr(params, field), bound, "nothing-to-add")
    anchor = params.anchor or Anchor.CENTER
    left = anchor.before(width - image[0], "left", "right")
    top = anchor.before(height - image[1], "top", "bottom")
    return left, top, width - image[0] - left, height - image[1] - top


def _check_size(params: GenerationParams, borders: Borders, image: Size) -> None:
    """Raise `InvalidRequest` if the result is too large, or the results of all images are."""
    left, top, right, bottom = borders
    size = width, height = left + image[0] + right, top + image[1] + bottom
    for (first, second), side, own in zip(AXES.values(), size, image, strict=True):
        if side > MAX_SIDE:
            bound = f"so that the result has sides up to {MAX_SIDE}, not {side}"
            field = first if getattr(params, first) else second
            raise InvalidRequest(field, side - own, bound, "size-out-of-range")
    if width * height > MAX_UPSCALED_PIXELS:
        bound = (
            f"so that the result has at most {MAX_UPSCALED_PIXELS} pixels; {width}x{height} has "
            f"{width * height}"
        )
        raise _too_large(params, borders, bound, "too-many-pixels")
    if (most := MAX_UPSCALED_PIXELS // (width * height)) < params.n:
        bound = f"at most {most}, for images of {width}x{height}"
        raise InvalidRequest("n", params.n, bound, "too-many-images")


def _too_large(
    params: GenerationParams, borders: Borders, bound: str, problem: str
) -> InvalidRequest:
    """Return an error that names the field with the largest value."""
    sent = {"width": params.width, "height": params.height}
    if params.width is None and params.height is None:
        sent = dict(zip(SIDES, borders, strict=True))
    field = max(sent, key=lambda name: sent[name] or 0)
    return InvalidRequest(field, sent[field], bound, problem)


def _blend(params: GenerationParams, borders: Borders, image: Size, window: Size) -> int:
    """Return the width of the blended edge.

    Raises `InvalidRequest` if it is more than two windows share, or leaves too little of the image.
    """
    bordered = [image[axis] for axis in (0, 1) if borders[axis] + borders[axis + 2] > 0]
    most = min(*(side // OVERLAP for side in window), min(bordered) // LEAST_KEPT)
    if params.edge_blend is None:
        return min(min(window) // BLEND, most)
    if params.edge_blend > most:
        bound = (
            f"at most {most}, a quarter of the image's smaller side with a border and of the "
            f"model's {window[0]}x{window[1]}"
        )
        raise InvalidRequest("edge_blend", params.edge_blend, bound, "size-out-of-range")
    return params.edge_blend
