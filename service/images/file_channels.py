"""The channels of an image file, apart and together: RGB without alpha, masks, previews."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps

from service.images.image_file import ImageFile
from service.images.input_images import COPY_BYTES, InputImages, area
from service.images.uploaded_images import canonical, decode_with_alpha, reduction_of

CHANNELS = {"red": "R", "green": "G", "blue": "B"}


def opaque_file(images: InputImages, field: str, data: bytes) -> bytes:
    """Return a file without its alpha channel; the colours under transparent pixels are kept."""
    file = images.open(field, data)
    if not file.is_transparent:
        return data
    with _decoded(images, file) as image:
        return canonical(image.convert("RGB")).png


def channel_mask(images: InputImages, field: str, data: bytes, channel: str) -> bytes:
    """Return a mask of a channel: red, green or blue, or alpha, of which the transparent is marked.

    An image without alpha marks nothing.
    """
    with _decoded(images, images.open(field, data)) as image:
        if channel != "alpha":
            return canonical(image.convert("RGB").getchannel(CHANNELS[channel])).png
        if image.mode != "RGBA":
            return canonical(Image.new("L", image.size)).png
        return canonical(ImageOps.invert(image.getchannel("A"))).png


def with_alpha_of(images: InputImages, original: bytes, mask: bytes) -> bytes:
    """Return the original with the alpha channel of another file of its size.

    Raises `InvalidRequest`.
    """
    with _decoded(images, images.open("image", mask)) as image:
        alpha = image.convert("RGBA").getchannel("A")
    with _decoded(images, images.open("original_ref", original)) as image:
        whole = image.convert("RGB")
        whole.putalpha(alpha if alpha.size == whole.size else alpha.resize(whole.size))
        return canonical(whole).png


def shown_file(
    images: InputImages, data: bytes, channel: str = "rgba", preview: str = "", quality: int = 90
) -> bytes:
    """Return a file as it is shown: its RGB or its alpha alone as PNG, or a smaller file.

    `preview` is webp or jpeg, in which it is encoded; "" for PNG.
    """
    with _decoded(images, images.open("filename", data)) as image:
        if channel == "a":
            alpha = image.convert("RGBA").getchannel("A")
            image = Image.new("RGBA", image.size)
            image.putalpha(alpha)
        elif channel == "rgb" or preview == "jpeg":
            image = image.convert("RGB")
        if not preview:
            return canonical(image).png
        buffer = io.BytesIO()
        image.save(buffer, preview, quality=quality)
        return buffer.getvalue()


@contextmanager
def _decoded(images: InputImages, file: ImageFile) -> Iterator[Image.Image]:
    """Decode a file in its own size, in RGB or RGBA, in memory that is reserved meanwhile."""
    reduction = reduction_of(file, file.size, images.memory.size)
    count = max(reduction.bytes, COPY_BYTES * area(file.size))
    with images.memory.reserved(file.field, file.text, count):
        yield decode_with_alpha(file, file.size, reduction)
