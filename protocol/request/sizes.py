"""How large pictures are: what was asked for, what the input says, what the model allows."""

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard

Size = tuple[int, int]  # width, height in pixels


def target_size(
    asked: tuple[int | None, int | None],
    card: ModelCard,
    image_size: Size | None = None,
    mask_size: Size | None = None,
) -> Size:
    """The pictures' width and height: as asked, else of the image given, else the model's default.

    Raises `InvalidRequest` unless the model can draw that size, and any mask is of the image's.
    """
    if image_size and mask_size and image_size != mask_size:
        bound = f"of the image's size, {_x(image_size)}"
        raise InvalidRequest("mask", _x(mask_size), bound, "mask-size")
    usual = image_size or (card.default_width, card.default_height)
    width, height = (u if a is None else a for a, u in zip(asked, usual, strict=True))
    if image_size == (width, height) and not card.allows_size(width, height):
        bound = (
            f"of a size the model can draw ({_size_bound(card)}), "
            "or sent with the width and height to resize it to"
        )
        raise InvalidRequest("image", _x(image_size), bound, "image-size")
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
            _x((width, height)),
            f"so that width x height is at most {card.max_pixels}",
            "too-many-pixels",
        )
    return width, height


def upscaled_size(card: ModelCard, image_size: Size) -> Size:
    """Of what the model makes of an image. Raises `InvalidRequest` if that is out of its bounds."""
    factor = card.upscale_factor
    width, height = (factor * side for side in image_size)
    sides_fit = all(card.min_side <= side <= card.max_side for side in (width, height))
    if not sides_fit or width * height > card.max_pixels:
        bound = (
            f"so large that {factor} times its sides are from {card.min_side} to {card.max_side}, "
            f"in all at most {card.max_pixels} pixels"
        )
        raise InvalidRequest("image", _x(image_size), bound, "image-size")
    return width, height


def _x(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _size_bound(card: ModelCard) -> str:
    return (
        f"sides from {card.min_side} to {card.max_side} in multiples of {card.size_multiple}, "
        f"at most {card.max_pixels} pixels"
    )
