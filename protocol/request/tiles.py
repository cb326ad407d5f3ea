"""Image to image in tiles: sizes beyond those that a model can generate at once."""

import math

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.fields import MAX_SIDE
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.model_card import ModelCard
from protocol.request.multi_pass import check_absent, largest_scale, scaled_size
from protocol.request.request import Decoder, Tiles
from protocol.request.sizes import Size, target_size
from protocol.request.upscaling import check_upscaler, upscaler_scales

MAX_TILED_SIDE = 8192  # pixels
MAX_TILES = 1024  # of one image
OVERLAP = 4  # by default a tile shares 1 / OVERLAP of its side with the next
UPSCALER = "lanczos"

_NOT_ALONE = ("tile_overlap", "upscaler", "scale")


def tiled_size(params: GenerationParams, card: ModelCard, image: Size) -> Size:
    """Return the size of the result: as requested, else that of the image times `scale`.

    Raises `InvalidRequest` for a size out of bounds.
    """
    card = card.model_copy(update={"max_side": MAX_TILED_SIDE, "max_pixels": MAX_TILED_SIDE**2})
    if max(image) > MAX_SIDE:
        bound = f"with sides up to {MAX_SIDE}"
        raise InvalidRequest("image", f"{image[0]}x{image[1]}", bound, "image-size")
    if params.width is None and params.height is None:
        return _scaled(params, card, image)
    if params.scale is not None:
        bound = "absent, for width or height is given"
        raise InvalidRequest("scale", params.scale, bound, "not-with-another")
    return target_size((params.width, params.height), card, image)


def _scaled(params: GenerationParams, card: ModelCard, image: Size) -> Size:
    """Return the image's size times `scale`, in multiples that the model can generate.

    By default times what the upscaler enlarges, or once.
    """
    scale = params.scale or upscaler_scales(card).get(params.upscaler or UPSCALER, 1)
    width, height = size = scaled_size(image, scale, card)
    if card.allows_size(width, height):
        return size
    bounds = f"so that the sides are from {card.min_side} to {card.max_side}"
    smallest = scaled_size(image, 1.0, card)
    if params.scale is None or min(size) < card.min_side or not card.allows_size(*smallest):
        bound = f"{bounds}, times {exact(scale)}"
        raise InvalidRequest("image", f"{image[0]}x{image[1]}", bound, "image-size")
    largest = exact(largest_scale(image, scale, card))
    raise InvalidRequest("scale", scale, f"at most {largest}, {bounds}", "too-many-pixels")


def resolve_tiles(
    params: GenerationParams, card: ModelCard, size: Size, image: InputImage | None
) -> Tiles | None:
    """Return the tiles of an image of `size`, if asked for.

    Raises `InvalidRequest` for tiles that the model cannot generate, or too many of them, and for
    fields that do not go with them.
    """
    if params.tile_size is None or image is None:
        check_absent(params, _NOT_ALONE, "tile_size")
        return None
    side = _checked_side(params.tile_size, card)
    overlap = _checked_overlap(params.tile_overlap, side, card)
    tiles = Tiles(size=side, overlap=overlap, upscaler=params.upscaler or UPSCALER)
    check_upscaler("upscaler", tiles.upscaler, card)
    if (count := tiles.count(*size)) > MAX_TILES:
        bound = f"so large that at most {MAX_TILES} tiles cover {size[0]}x{size[1]}, not {count}"
        raise InvalidRequest("tile_size", side, bound, "too-many-tiles")
    if params.n != 1:
        raise InvalidRequest("n", params.n, "1: tiles are of one image", "too-many-images")
    if params.resize_mode is not None:
        bound = "absent, for tile_size is given"
        raise InvalidRequest("resize_mode", params.resize_mode, bound, "not-with-another")
    if params.decoder is Decoder.TINY:
        bound = "full, for tile_size is given"
        raise InvalidRequest("decoder", params.decoder.value, bound, "not-with-another")
    return tiles


def _checked_side(side: int, card: ModelCard) -> int:
    unit = card.size_multiple
    largest = min(card.max_side, math.isqrt(card.max_pixels)) // unit * unit
    if side % unit:
        raise InvalidRequest("tile_size", side, f"a multiple of {unit}", "size-not-a-multiple")
    if not card.min_side <= side <= largest:
        bound = f"between {card.min_side} and {largest}"
        raise InvalidRequest("tile_size", side, bound, "size-out-of-range")
    return side


def _checked_overlap(overlap: int | None, side: int, card: ModelCard) -> int:
    unit = card.size_multiple
    if overlap is None:
        return side // OVERLAP // unit * unit
    if overlap % unit:
        raise InvalidRequest(
            "tile_overlap", overlap, f"a multiple of {unit}", "size-not-a-multiple"
        )
    if overlap > (largest := side // 2 // unit * unit):
        bound = f"at most {largest}, which is up to half of tile_size"
        raise InvalidRequest("tile_overlap", overlap, bound, "size-out-of-range")
    return overlap
