"""The size of images: from the request, the input image, or the default of the model."""

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard

Size = tuple[int, int]  # width, height in pixels


def target_size(
    requested: tuple[int | None, int | None],
    card: ModelCard,
    image_size: Size | None = None,
    mask_size: Size | None = None,
) -> Size:
    """Return width and height: as requested, else of the input image, else the model's default.

    Raises `InvalidRequest` if the model cannot generate that size, or if the mask's size is not
    the image's.
    """
    if image_size and mask_size and image_size != mask_size:
        bound = f"of the image's size, {_text(image_size)}"
        raise InvalidRequest("mask", _text(mask_size), bound, "mask-size")
    default = image_size or (card.default_width, card.default_height)
    width, height = (d if r is None else r for r, d in zip(requested, default, strict=True))
    if image_size == (width, height) and not card.allows_size(width, height):
        bound = (
            f"of a size the model can generate ({_size_bound(card)}), "
            "or sent with the width and height to resize it to"
        )
        raise InvalidRequest("image", _text(image_size), bound, "image-size")
    for field, side in (("width", width), ("height", height)):
        if side % card.size_multiple:
            raise InvalidRequest(
                field, side, f"a multiple of {card.size_multiple}", "size-not-a-multiple"
            )
        if not card.min_side <= side <= card.max_side:
            raise InvalidRequest(
                field, side, f"between {card.min_side} and {card.max_side}", "size-out-of-range"
            )
    if width * height > card.max_pixels:
        raise InvalidRequest(
            "width",
            _text((width, height)),
            f"so that width x height is at most {card.max_pixels}",
            "too-many-pixels",
        )
    return width, height


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
        raise InvalidRequest("image", _text(image_size), bound, "image-size")
    return width, height


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _size_bound(card: ModelCard) -> str:
    return (
        f"sides from {card.min_side} to {card.max_side} in multiples of {card.size_multiple}, "
        f"at most {card.max_pixels} pixels"
    )
