"""Decodes uploaded images in the size in which they are used.

Pillow is imported only in this folder. Workers open only files encoded here: an RGB image or an L
mask, without loss. Decoding takes time and memory, so callers run it in a limited number of
threads, and each image reserves its memory (`input_images`).
"""

import io
from dataclasses import dataclass

from PIL import Image

from protocol.errors import InvalidRequest
from protocol.request.generation_params import InputImage
from protocol.request.object_keys import input_key
from service.images.colours import to_rgb, to_rgba
from service.images.image_file import TRANSPOSES, ImageFile, Size, as_invalid_request
from service.images.pixels import (
    OVERHEAD,
    Convert,
    Reduction,
    choose_reduction,
    decoded,
    read_reduced,
)

LABEL_FORMATS = ("PNG",)  # of label maps: a lossy format would change their values
NEAREST, SMOOTH = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
PNG_LEVEL = 1  # of 9: inputs are written once and read once, so speed matters more than size


@dataclass(frozen=True)
class CanonicalImage:
    """An input image for the worker: the PNG file, and its record in the request."""

    png: bytes
    record: InputImage


def canonical(image: Image.Image) -> CanonicalImage:
    """Return `image` (RGB, RGBA or L) encoded as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    png = buffer.getvalue()
    width, height = image.size
    return CanonicalImage(png, InputImage(key=input_key(png), width=width, height=height))


def reduction_of(file: ImageFile, size: Size, budget: int) -> Reduction:
    """Return how to reduce an image before it is resized to `size`, within `budget` if possible."""
    plain = file.mode == "RGB" and not file.is_transparent and file.icc_profile is None
    return choose_reduction(file, file.in_file(size), budget, plain)


def decode_image(file: ImageFile, size: Size, reduction: Reduction) -> Image.Image:
    """Return an uploaded image in RGB, upright, in `size`, with transparency on white.

    The first frame of an animation is used. Colours are converted to sRGB by the file's ICC
    profile. Raises `InvalidRequest`.
    """
    convert = to_rgb(file.mode, file.is_transparent, file.icc_profile)
    return _decode(file, size, reduction, convert)


def decode_with_alpha(file: ImageFile, size: Size, reduction: Reduction) -> Image.Image:
    """Return an uploaded image as `decode_image`, but in RGBA if it has transparency."""
    if not file.is_transparent:
        return decode_image(file, size, reduction)
    return _decode(file, size, reduction, to_rgba(file.mode, True, file.icc_profile))


def has_transparency(image: Image.Image) -> bool:
    """Return True if an image in RGB or RGBA has a pixel that is not opaque."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)


def _decode(file: ImageFile, size: Size, reduction: Reduction, convert: Convert) -> Image.Image:
    with as_invalid_request(file.field, file.data):
        reduced = read_reduced(file, reduction, convert)
        scale = reduction.draft * reduction.factor
        # The last pixels of a reduced image may stand for fewer of the file's.
        width, height = file.stored
        box = (0, 0, width / scale, height / scale)
        return upright(file, reduced.resize(file.in_file(size), SMOOTH, box))


def upright(file: ImageFile, image: Image.Image) -> Image.Image:
    """Return pixels of `file` turned as its EXIF block says."""
    transpose = TRANSPOSES.get(file.orientation)
    return image if transpose is None else image.transpose(transpose)


def labels_bytes(file: ImageFile, size: Size) -> int:
    """Return what `decode_label_map` takes."""
    width, height = file.stored
    return 3 * width * height + 2 * size[0] * size[1] + len(file.data) + OVERHEAD


def decode_label_map(file: ImageFile, size: Size, classes: int) -> Image.Image:
    """Return an uploaded label map in L: the grey value or palette index of each pixel.

    Raises `InvalidRequest`, also for values that are not below `classes`.
    """
    with as_invalid_request(file.field, file.data):
        if file.mode not in ("L", "P"):
            bound = "a PNG with one channel of 8 bits, or with a palette"
            raise InvalidRequest(file.field, f"of mode {file.mode}", bound, "not-a-label-map")
        labels = decoded(file)
        if labels.mode == "P":
            labels = Image.frombytes("L", labels.size, labels.tobytes())
        largest = max(value for value, pixels in enumerate(labels.histogram()) if pixels)
        if largest >= classes:
            bound = f"a map of numbers up to {classes - 1}"
            raise InvalidRequest(file.field, f"a map with a {largest}", bound, "unknown-class")
        return upright(file, labels.resize(file.in_file(size), NEAREST))
