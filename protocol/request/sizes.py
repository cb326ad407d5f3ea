"""The size of images: from the request, the input image, or the default of the model."""

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard

Size = tuple[int, int]  # width, height in pixels
RESIZED = "with the width or height, or both, to resize it to"


def target_size(
    requested: tuple[int | None, int | None],
    card: ModelCard,
    image_size: Size | None = None,
    instead: str = RESIZED,
) -> Size:
    """Return width and height: as requested, else of the input image, else the model's default.

    If one side is requested, the other is in proportion. Raises `InvalidRequest` if the model
    cannot generate that size; for an image, with the other ways to send it, `instead`.
    """
    for field, side in zip(("width", "height"), requested, strict=True):
        if side is not None:
            _check_side(field, side, card)
    default = image_size or (card.default_width, card.default_height)
    width, height = requested
    if width is None and height is None:
        if image_size and not card.allows_size(*image_size):
            bound = f"of a size the model can generate ({size_bound(card)}), or sent {instead}"
            raise InvalidRequest("image", size_text(image_size), bound, "image-size")
        return default
    if height is None:
        assert width is not None
        return width, _in_proportion("width", width, default, card)
    if width is None:
        return _in_proportion("height", height, default[::-1], card), height
    if width * height > card.max_pixels:
        bound = f"so that width x height is at most {card.max_pixels}"
        raise InvalidRequest("width", size_text((width, height)), bound, "too-many-pixels")
    return width, height


def check_mask_size(image_size: Size, mask_size: Size) -> None:
    """Raise `InvalidRequest` if the mask's aspect is not the image's."""
    if not same_aspect(image_size, mask_size):
        bound = f"of the image's size, {size_text(image_size)}, or of the same aspect"
        raise InvalidRequest("mask", size_text(mask_size), bound, "mask-size")


def padded_size(card: ModelCard, image_size: Size) -> Size | None:
    """Return the smallest size with an image of `image_size` in it; None if it is out of bounds.

    An image smaller than the model's smallest is out of bounds, too.
    """
    unit = card.size_multiple
    width, height = (-(-side // unit) * unit for side in image_size)
    fits = min(image_size) >= card.min_side and card.allows_size(width, height)
    return (width, height) if fits else None


def same_aspect(one: Size, other: Size) -> bool:
    """Return True if the smaller size is the other one scaled and rounded up or down."""
    if one[0] == other[0] or one[1] == other[1]:
        return one == other
    rounding = max(sum(one), sum(other))  # of a pixel of the smaller one on each side
    return abs(one[0] * other[1] - one[1] * other[0]) < rounding


def _check_side(field: str, side: int, card: ModelCard) -> None:
    if side % card.size_multiple:
        bound = f"a multiple of {card.size_multiple}"
        raise InvalidRequest(field, side, bound, "size-not-a-multiple")
    if not card.min_side <= side <= card.max_side:
        bound = f"between {card.min_side} and {card.max_side}"
        raise InvalidRequest(field, side, bound, "size-out-of-range")


def _in_proportion(field: str, side: int, ratio: Size, card: ModelCard) -> int:
    """Return the side that is to `side`, the field's value, as the second of `ratio` to the first.

    It is the nearest one that the model can generate together with `side`.
    """
    unit = card.size_multiple
    lowest = -(-card.min_side // unit) * unit
    highest = min(card.max_side, card.max_pixels // side) // unit * unit
    if highest < lowest:
        bound = f"at most {card.max_pixels // lowest}"
        raise InvalidRequest(field, side, bound, "too-many-pixels")
    nearest = (2 * side * ratio[1] + unit * ratio[0]) // (2 * unit * ratio[0]) * unit
    return max(lowest, min(nearest, highest))


def upscaled_size(card: ModelCard, image_size: Size) -> Size:
    """Return the size of the upscaled image. Raises `InvalidRequest` if it is out of bounds."""
    factor = card.upscale_factor
    width, height = (factor * side for side in image_size)
    sides_fit = all(card.min_side <= side <= card.max_side for side in (width, height))
    if not sides_fit or width * height > card.max_pixels:
        bound = (
            f"so large that {factor} times its sides are from {card.min_side} to {card.max_side}, "
            f"in all at most {card.max_pixels} pixels"
        )
        raise InvalidRequest("image", size_text(image_size), bound, "image-size")
    return width, height


def size_text(size: Size) -> str:
    """Return a size as 512x768."""
    return f"{size[0]}x{size[1]}"


def size_bound(card: ModelCard) -> str:
    """Return the sizes that a model can generate, in words."""
    return (
        f"sides from {card.min_side} to {card.max_side} in multiples of {card.size_multiple}, "
        f"at most {card.max_pixels} pixels"
    )
