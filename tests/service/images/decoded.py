"""Uploaded files decoded as a request decodes them."""

from PIL import Image

from service.images.image_file import Size, open_image
from service.images.masks import Mask, decode_mask
from service.images.uploaded_images import decode_image, reduction_of

BUDGET = 256 * 2**20


def image_of(data: bytes, max_pixels: int, size: Size | None = None) -> Image.Image:
    """Return an uploaded image in `size`, by default in its own."""
    file = open_image("image", data, max_pixels)
    size = size or file.size
    return decode_image(file, size, reduction_of(file, size, BUDGET))


def mask_of(data: bytes, max_pixels: int) -> Mask:
    """Return an uploaded mask in its own size."""
    return decode_mask(open_image("mask", data, max_pixels))
