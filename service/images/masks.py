"""Uploaded masks: decoded, resized so that no stroke is lost, and checked for another convention.

White marks the pixels to inpaint; black and transparent pixels are kept. A mask of another
convention (transparency, black or coloured strokes) is read by these rules all the same, because
it may be meant so, but its client gets a warning.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter

from protocol.errors import InvalidRequest
from protocol.queue.job import RequestWarning, Warnings
from service.images.colours import BLACK, on_background, to_eight_bits
from service.images.image_file import ImageFile, Size, as_invalid_request
from service.images.pixels import CHILD_FORMATS, OVERHEAD, strips
from service.images.uploaded_images import SMOOTH, upright

MARKED = 128  # and above, of 255: as the threshold of the models, which is 0.5
COLOURED = 64  # difference between the channels of a pixel; compression alone gives less

CONVENTION = "white marks what is inpainted, black and transparent pixels are kept"


@dataclass(frozen=True)
class Mask:
    """A decoded mask: an image of mode L, and the warnings for its client."""

    image: Image.Image
    warnings: Warnings


def mask_bytes(file: ImageFile, size: Size) -> int:
    """Return what decoding a mask and resizing it to `size` takes."""
    width, height = file.stored
    planes = 2 if file.is_transparent else 1
    whole = 0 if file.format in CHILD_FORMATS else file.pixel_bytes
    decoding = file.decoder_bytes + (whole + planes) * width * height
    comparing = (3 + planes) * width * height
    return max(decoding, comparing) + 8 * size[0] * size[1] + len(file.data) + OVERHEAD


def decode_mask(file: ImageFile) -> Mask:
    """Return an uploaded mask in L, upright, transparency on black. Raises `InvalidRequest`."""
    with as_invalid_request(file.field, file.data):
        mask = Image.new("L", file.stored)
        alpha = Image.new("L", file.stored) if file.is_transparent else None
        has_colours, top = False, 0
        with strips(file) as found:
            for strip in found:
                on_black = on_background(pixels := to_eight_bits(strip), BLACK)
                has_colours = has_colours or _has_colours(on_black)
                mask.paste(on_black.convert("L"), (0, top))
                if alpha is not None:
                    alpha.paste(pixels.convert("RGBA").getchannel("A"), (0, top))
                top += strip.height
        remarks = [
            RequestWarning(code=code, field=file.field, detail=detail)
            for code, detail in _remarks(mask, alpha, has_colours)
        ]
        return Mask(upright(file, mask), tuple(remarks))


def decode_transparency(file: ImageFile) -> Image.Image:
    """Return a mask in L that marks the fully transparent pixels of an image, upright.

    Raises `InvalidRequest`, also if there are none.
    """
    with as_invalid_request(file.field, file.data):
        mask = Image.new("L", file.stored)
        top = 0
        with strips(file) as found:
            for strip in found:
                alpha = to_eight_bits(strip).convert("RGBA").getchannel("A")
                mask.paste(alpha.point(lambda level: 0 if level else 255), (0, top))
                top += strip.height
        if mask.getbbox() is None:
            bound = "an image with fully transparent pixels, which mark what is edited"
            raise InvalidRequest(file.field, file.text, bound, "no-transparency")
        return upright(file, mask)


def resize_mask(mask: Image.Image, size: Size) -> Image.Image:
    """Resize a mask as its image is resized, and mark strokes that are too thin for that.

    The edges of areas of three pixels and more stay as they are resized. Every marked pixel has a
    marked pixel at its place in the result, or at most two pixels from it.
    """
    if mask.size == size:
        return mask
    resized = mask.resize(size, SMOOTH)
    areas = marked_pixels(resized).filter(ImageFilter.MinFilter(3))
    edges = areas.filter(ImageFilter.MaxFilter(7))  # the areas again, and two pixels around them
    lost = ImageChops.subtract(_pooled(marked_pixels(mask), size), edges)
    return ImageChops.lighter(resized, lost)


def marked_pixels(mask: Image.Image) -> Image.Image:
    """Return 255 where a mask is marked and 0 elsewhere."""
    return mask.point(lambda value: 255 if value >= MARKED else 0)


def _pooled(marked: Image.Image, size: Size) -> Image.Image:
    """Mark the pixels of an image of `size` in which the left upper corner of a marked one lies."""
    width, height = size
    rows = _pooled_rows(marked, height).transpose(Image.Transpose.TRANSPOSE)
    return _pooled_rows(rows, width).transpose(Image.Transpose.TRANSPOSE)


def _pooled_rows(marked: Image.Image, height: int) -> Image.Image:
    """Unite the rows that fall into one of `height` rows."""
    width, rows = marked.size
    data, united = marked.tobytes(), [0] * height
    for y in range(rows):
        # As one large number a row is united in one operation.
        united[y * height // rows] |= int.from_bytes(data[y * width : (y + 1) * width])
    return Image.frombytes("L", (width, height), b"".join(row.to_bytes(width) for row in united))


def _remarks(
    mask: Image.Image, alpha: Image.Image | None, has_colours: bool
) -> Iterator[tuple[str, str]]:
    """Yield codes and details of what is unusual about a mask; `alpha` is None if it is opaque."""
    marked = marked_pixels(mask)
    if not _share(marked):
        _, brightest = mask.getextrema()
        yield (
            "mask-empty",
            f"The mask marks nothing, so the image comes back as it was sent: {CONVENTION}. "
            f"The brightest pixel of the mask is {brightest}; marked are those from {MARKED} on.",
        )
    if has_colours:
        yield (
            "mask-coloured",
            f"The mask has coloured pixels, which count by their brightness: {CONVENTION}.",
        )
    if alpha is not None and _transparency_marks(alpha, marked):
        yield (
            "mask-transparent",
            f"The mask has transparent pixels, and they are kept: {CONVENTION}. "
            "If transparency marks the area to inpaint, send that area in white on black.",
        )
    elif _is_background(marked):
        yield (
            "mask-inverted",
            f"The mask is white with {marked.histogram()[0]} dark pixels, and those are kept: "
            f"{CONVENTION}. If the dark strokes mark the area to inpaint, invert the mask.",
        )


def _transparency_marks(alpha: Image.Image, marked: Image.Image) -> bool:
    """Return True if a mask does not look like white strokes on a transparent background.

    So it is if it has transparent pixels on a white background, or if more than a quarter of its
    opaque pixels are not white: then the transparent ones must mean something else.
    """
    opaque = marked_pixels(alpha)
    if _share(opaque) == 1:
        return False
    others = _share(ImageChops.subtract(opaque, marked))
    return _fills_the_border(marked) or 4 * others > _share(opaque)


def _is_background(marked: Image.Image) -> bool:
    """Return True if the marked pixels look like a background with strokes on it."""
    return 0.5 < _share(marked) < 1 and _fills_the_border(marked)


def _fills_the_border(marked: Image.Image) -> bool:
    """Return True if at least three quarters of the pixels at the edges are marked."""
    border = Image.new("L", marked.size, 255)
    width, height = marked.size
    border.paste(0, (1, 1, max(1, width - 1), max(1, height - 1)))
    return _share(ImageChops.multiply(marked, border)) >= 0.75 * _share(border)


def _has_colours(image: Image.Image) -> bool:
    red, green, blue = image.convert("RGB").split()
    highest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lowest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return any(ImageChops.subtract(highest, lowest).histogram()[COLOURED:])


def _share(marked: Image.Image) -> float:
    """Return the share of pixels that are 255 in an image of 0 and 255."""
    return marked.histogram()[255] / (marked.width * marked.height)
