"""What clients upload, decoded, checked and made into PNGs of our own. The only file with pillow.

Whatever comes in, workers only ever open what left here: an RGB image or an L mask, losslessly
packed. Decoding takes time and memory, so it runs in threads, of which there are few.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageCms

from protocol.errors import InvalidRequest
from protocol.request.generation_params import InputImage
from protocol.request.object_keys import input_key
from service.images.image_sanitizer import orientation, strip_metadata

FORMATS = ("PNG", "JPEG", "WEBP")
LABELS = ("PNG",)  # what maps of classes come in: their values must not be mixed
NEAREST, SMOOTH = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
WHITE = (255, 255, 255, 255)
BLACK = (0, 0, 0, 255)
PNG_LEVEL = 1  # of 9: inputs are written once and read once, so speed counts for more than size
TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LARGEST_PROFILE = 2**20  # bytes; those of printers have half of that
SRGB = ImageCms.createProfile("sRGB")
PROFILED = {"1": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "I;16": "L"}  # what profiles are of

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class CanonicalImage:
    """An input as the worker gets it: the file, and the record that goes with the request."""

    png: bytes
    record: InputImage


def decode_image(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """An uploaded picture in RGB, upright, transparency on white; raises `InvalidRequest`.

    Of an animation, the first picture. Colours are brought to sRGB by the profile that came along.
    """
    with _refusing(field, data, max_pixels):
        image = _in_srgb(_decode(field, data, max_pixels))
        return _on_background(image, WHITE).convert("RGB")


def decode_mask(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """An uploaded mask in L, upright: white is repainted; black and the transparent are kept."""
    with _refusing(field, data, max_pixels):
        return _on_background(_decode(field, data, max_pixels), BLACK).convert("L")


def decode_labels(field: str, data: bytes, max_pixels: int, classes: int) -> Image.Image:
    """An uploaded map of classes in L: of each pixel its grey value, or its place in the palette.

    Raises `InvalidRequest` also for values that are no class's number.
    """
    with _refusing(field, data, max_pixels):
        labels, _ = _opened(field, data, max_pixels, LABELS)
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
    """`image` (RGB or L) stretched to `size` and packed as PNG."""
    if image.size != size:
        image = image.resize(size, resampling)
    packed = io.BytesIO()
    image.save(packed, "PNG", compress_level=PNG_LEVEL)
    png = packed.getvalue()
    width, height = size
    return CanonicalImage(png, InputImage(key=input_key(png), width=width, height=height))


def _decode(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """The first frame, upright, in eight bits."""
    image, exif = _opened(field, data, max_pixels)
    turn = TURNS.get(orientation(exif))
    image = _eight_bits(image)
    return image if turn is None else image.transpose(turn)


def _opened(
    field: str, data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> tuple[Image.Image, bytes]:
    """The first frame as it stands, and the EXIF block that came along.

    Its size is checked before a pixel is unpacked.
    """
    file = strip_metadata(field, data)
    image: Image.Image = Image.open(io.BytesIO(file.data), formats=formats)
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidRequest(field, f"{width}x{height}", _at_most(max_pixels), "image-too-large")
    image.load()
    return image, file.exif or image.info.get("exif", b"")


@contextmanager
def _refusing(field: str, data: bytes, max_pixels: int) -> Iterator[None]:
    """Turns whatever decoding raises inside the block into an `InvalidRequest`."""
    try:
        yield
    except InvalidRequest:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        bound = _at_most(max_pixels)
        raise InvalidRequest(field, "far too large", bound, "image-too-large") from error
    except Exception as error:
        # Decoders of foreign bytes raise whatever they stumble over; to the client it is all one.
        raise InvalidRequest(
            field,
            f"{len(data)} bytes that cannot be decoded",
            "a PNG, JPEG or WebP file",
            "broken-image",
        ) from error


def _at_most(max_pixels: int) -> str:
    return f"an image of at most {max_pixels} pixels"


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys scaled to 8 bits; pillow's own conversion would clip them."""
    if not image.mode.startswith("I"):
        return image
    scaled = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    scaled.info = image.info
    return scaled


def _in_srgb(image: Image.Image) -> Image.Image:
    """In the colours that its profile means; one that is broken or does not fit is ignored."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 0 < len(profile) <= LARGEST_PROFILE:
        return image
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = PROFILED.get(image.mode, image.mode)
        if image.has_transparency_data and mode == "RGB":
            mode = "RGBA"
        into = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image.convert(mode), meant, SRGB, outputMode=into) or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _on_background(image: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image.convert("RGBA"))
