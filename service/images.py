"""What clients upload, decoded, checked and made into PNGs of our own. The only file with pillow.

Whatever comes in, workers only ever open what left here: an RGB image or an L mask, losslessly
packed. Decoding takes time and memory, so it runs in threads, of which there are few.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageOps

from protocol.drafts import InputImage
from protocol.errors import InvalidRequest
from protocol.keys import input_key

FORMATS = ("PNG", "JPEG", "WEBP")
WHITE = (255, 255, 255, 255)
BLACK = (0, 0, 0, 255)
PNG_LEVEL = 1  # of 9: inputs are written once and read once, so speed counts for more than size

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class CanonicalImage:
    """An input as the worker gets it: the file, and the record that goes with the request."""

    png: bytes
    record: InputImage


def decode_image(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """An uploaded picture in RGB, upright, transparency on white; raises `InvalidRequest`."""
    return _on_background(_decode(field, data, max_pixels), WHITE).convert("RGB")


def decode_mask(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """An uploaded mask in L, upright: white is repainted; black and the transparent are kept."""
    return _on_background(_decode(field, data, max_pixels), BLACK).convert("L")


def canonical(image: Image.Image, size: Size) -> CanonicalImage:
    """`image` (RGB or L) stretched to `size` and packed as PNG."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    image.save(packed, "PNG", compress_level=PNG_LEVEL)
    png = packed.getvalue()
    width, height = size
    return CanonicalImage(png, InputImage(key=input_key(png), width=width, height=height))


def _decode(field: str, data: bytes, max_pixels: int) -> Image.Image:
    """The first frame, upright. Its size is checked before a pixel is unpacked."""
    too_large = f"an image of at most {max_pixels} pixels"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise InvalidRequest(field, f"{width}x{height}", too_large, "image-too-large")
        image.load()
        return ImageOps.exif_transpose(_eight_bits(image))
    except InvalidRequest:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidRequest(field, "far too large", too_large, "image-too-large") from error
    except Exception as error:
        # Decoders of foreign bytes raise whatever they stumble over; to the client it is all one.
        raise InvalidRequest(
            field,
            f"{len(data)} bytes that cannot be decoded",
            "a PNG, JPEG or WebP file",
            "broken-image",
        ) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys scaled to 8 bits; pillow's own conversion would clip them."""
    if image.mode.startswith("I"):
        exif = image.getexif()
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        image.getexif().update(exif)
    return image


def _on_background(image: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image.convert("RGBA"))
