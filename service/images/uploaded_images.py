"""Decodes and checks uploaded images and encodes them as PNG.

Only this file and `masks` import pillow. Workers open only files encoded here: an RGB image or an
L mask, without loss. Decoding takes time and memory, so callers run it in a limited number of
threads.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageCms

from protocol.errors import InvalidRequest
from protocol.request.generation_params import InputImage
from protocol.request.object_keys import input_key
from service.images.image_sanitizer import orientation, sanitize_image

FORMATS = ("PNG", "JPEG", "WEBP")
LABEL_FORMATS = ("PNG",)  # of label maps: a lossy format would change their values
NEAREST, SMOOTH = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
WHITE = (255, 255, 255, 255)
BLACK = (0, 0, 0, 255)
PNG_LEVEL = 1  # of 9: inputs are written once and read once, so speed matters more than size
TRANSPOSES = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PROFILE_BYTES = 2**20  # printer profiles have half of that
SRGB = ImageCms.createProfile("sRGB")
# Image mode -> the mode that its ICC profile is for, where the two differ.
PROFILE_MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "I;16": "L"}

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class CanonicalImage:
    """An input image for the worker: the PNG file, and its record in the request."""

    png: bytes
    record: InputImage


def decode_image(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """Return an uploaded image in RGB, upright, with transparency on white.

    The first frame of an animation is used. Colours are converted to sRGB by the file's ICC
    profile. Raises `InvalidRequest`.
    """
    with as_invalid_request(field, data, max_pixels):
        image = _to_srgb(decode_upright(field, data, max_pixels))
        return on_background(image, WHITE).convert("RGB")


def decode_label_map(field: str, data: bytes, max_pixels: int, classes: int) -> Image.Image:
    """Return an uploaded label map in L: the grey value or palette index of each pixel.

    Raises `InvalidRequest`, also for values that are not below `classes`.
    """
    with as_invalid_request(field, data, max_pixels):
        labels, _ = _open(field, data, max_pixels, LABEL_FORMATS)
        if labels.mode not in ("L", "P"):
            bound = "a PNG with one channel of 8 bits, or with a palette"
            raise InvalidRequest(field, f"of mode {labels.mode}", bound, "not-a-label-map")
        if labels.mode == "P":
            labels = Image.frombytes("L", labels.size, labels.tobytes())
        largest = max(value for value, pixels in enumerate(labels.histogram()) if pixels)
        if largest >= classes:
            bound = f"a map of numbers up to {classes - 1}"
            raise InvalidRequest(field, f"a map with a {largest}", bound, "unknown-class")
        return labels


def canonical(
    image: Image.Image, size: Size, resampling: Image.Resampling = SMOOTH
) -> CanonicalImage:
    """Return `image` (RGB or L) resized to `size` and encoded as PNG."""
    if image.size != size:
        image = image.resize(size, resampling)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    png = buffer.getvalue()
    width, height = size
    return CanonicalImage(png, InputImage(key=input_key(png), width=width, height=height))


def decode_upright(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """Return the first frame, upright, with 8 bits per channel."""
    image, exif = _open(field, data, max_pixels)
    transpose = TRANSPOSES.get(orientation(exif))
    image = _to_eight_bits(image)
    return image if transpose is None else image.transpose(transpose)


def _open(
    field: str, data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> tuple[Image.Image, bytes]:
    """Return the first frame unchanged and the EXIF block of the file.

    The size is checked before any pixel is decompressed.
    """
    file = sanitize_image(field, data)
    image: Image.Image = Image.open(io.BytesIO(file.data), formats=formats)
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidRequest(field, f"{width}x{height}", _at_most(max_pixels), "image-too-large")
    image.load()
    return image, file.exif or image.info.get("exif", b"")


@contextmanager
def as_invalid_request(field: str, data: bytes, max_pixels: int) -> Iterator[None]:
    """Convert every exception of the decoder inside the block to `InvalidRequest`."""
    try:
        yield
    except InvalidRequest:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        bound = _at_most(max_pixels)
        raise InvalidRequest(field, "far too large", bound, "image-too-large") from error
    except Exception as error:
        # Decoders raise many exception types for invalid files; clients get the same error.
        raise InvalidRequest(
            field,
            f"{len(data)} bytes that cannot be decoded",
            "a PNG, JPEG or WebP file",
            "broken-image",
        ) from error


def _at_most(max_pixels: int) -> str:
    return f"an image of at most {max_pixels} pixels"


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit greyscale image to 8 bits; pillow's own conversion would clip its values."""
    if not image.mode.startswith("I"):
        return image
    scaled = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    scaled.info = image.info
    return scaled


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert the colours to sRGB by the ICC profile; an invalid profile is ignored."""
    data = image.info.get("icc_profile")
    if not isinstance(data, bytes) or not 0 < len(data) <= MAX_PROFILE_BYTES:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        mode = PROFILE_MODES.get(image.mode, image.mode)
        if image.has_transparency_data and mode == "RGB":
            mode = "RGBA"
        output = "RGBA" if mode == "RGBA" else "RGB"
        image_in_mode = image.convert(mode)
        return ImageCms.profileToProfile(image_in_mode, profile, SRGB, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def on_background(image: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    """Return `image` on a background of one colour where it is transparent."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image.convert("RGBA"))
