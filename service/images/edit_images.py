"""The images of an edit in OpenAI's API, turned into the one image and mask of our requests.

Every function decodes, so it runs in a thread, and raises `InvalidRequest` and `DecodingBusy`.
"""

import math
from collections.abc import Sequence

from PIL import Image

from protocol.errors import InvalidRequest
from protocol.request.inpainting import ResizeMode
from protocol.request.sizes import same_aspect, size_text
from service.images.image_file import ImageFile, Size
from service.images.input_images import InputImages, area
from service.images.masks import decode_transparency, mask_bytes
from service.images.resize_modes import Placement, placement
from service.images.uploaded_images import canonical, decode_with_alpha, reduction_of

RGBA_BYTES = 4

Corner = tuple[int, int]  # left, top


def mask_of_transparency(images: InputImages, file: ImageFile) -> bytes:
    """Return the mask whose white pixels are the fully transparent ones of `file`, as PNG."""
    with images.memory.reserved(file.field, file.text, mask_bytes(file, file.size)):
        return canonical(decode_transparency(file)).png


def side_by_side(images: InputImages, files: Sequence[ImageFile], size: Size) -> bytes:
    """Return images in rows on a canvas of `size`, as PNG; each is cut to the aspect of its place.

    Callers bound `size` by the model's.
    """
    canvas = Image.new("RGB", size)
    for file, (corner, cell) in zip(files, _cells(len(files), size), strict=True):
        canvas.paste(images.pixels(file, placement(ResizeMode.CROP, file.size, cell)), corner)
    return canonical(canvas).png


def overlaid(images: InputImages, image: ImageFile, markup: ImageFile) -> bytes:
    """Return an image with a transparent one of the same size over it, as PNG."""
    if not markup.is_transparent:
        bound = "an image with transparent pixels, which is put over the first image"
        raise InvalidRequest(markup.field, markup.text, bound, "no-transparency")
    if not same_aspect(image.size, markup.size):
        bound = f"of the image's size, {size_text(image.size)}"
        raise InvalidRequest(markup.field, size_text(markup.size), bound, "mask-size")
    pixels = images.pixels(image, Placement(image.size, image.size)).convert("RGBA")
    reduction = reduction_of(markup, image.size, images.memory.size)
    count = reduction.bytes + 2 * RGBA_BYTES * area(image.size)
    with images.memory.reserved(markup.field, markup.text, count):
        over = decode_with_alpha(markup, image.size, reduction)
        return canonical(Image.alpha_composite(pixels, over).convert("RGB")).png


def _cells(count: int, size: Size) -> list[tuple[Corner, Size]]:
    """Return the places of `count` images: rows as even as possible, of nearly square places."""
    width, height = size
    rows = min(count, max(1, round(math.sqrt(count * height / width))))
    cells = []
    for row in range(rows):
        columns = count * (row + 1) // rows - count * row // rows
        top, bottom = height * row // rows, height * (row + 1) // rows
        for column in range(columns):
            left, right = width * column // columns, width * (column + 1) // columns
            cells.append(((left, top), (right - left, bottom - top)))
    return cells
