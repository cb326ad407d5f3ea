"""Resizing an image to another aspect: stretched, cut, with continued edges, or not at all.

The arithmetic is that of `resize_image` in AUTOMATIC1111's modules/images.py and of
`VaeImageProcessor` in diffusers.
"""

from dataclasses import dataclass

from PIL import Image

from protocol.request.inpainting import PixelBox, ResizeMode
from service.images.image_file import Size


@dataclass(frozen=True)
class Placement:
    """An image scaled to `scaled` and placed in one of size `target`, `left` and `top` from its
    corner. If these are below 0 the image is cut; what it does not cover continues its edges."""

    scaled: Size
    target: Size
    left: int = 0
    top: int = 0

    @property
    def used(self) -> PixelBox:
        """The part of the target that shows the image."""
        left, top = max(0, self.left), max(0, self.top)
        right = min(self.target[0], self.left + self.scaled[0])
        bottom = min(self.target[1], self.top + self.scaled[1])
        return PixelBox(left=left, top=top, width=right - left, height=bottom - top)

    @property
    def covers(self) -> bool:
        """Return True if the image covers the whole target."""
        return (self.used.width, self.used.height) == self.target


def placement(mode: ResizeMode, source: Size, target: Size) -> Placement:
    """Return the placement of an image of size `source`."""
    match mode:
        case ResizeMode.STRETCH:
            return Placement(target, target)
        case ResizeMode.CROP:
            return _centred(_scaled(source, target, covering=True), target)
        case ResizeMode.FILL:
            return _centred(_scaled(source, target, covering=False), target)


def _scaled(source: Size, target: Size, covering: bool) -> Size:
    """Return the size in the aspect of `source` that just covers `target`, or just fits into it."""
    width, height = target
    is_wider = source[0] * height > source[1] * width
    if is_wider == covering:
        return max(1, source[0] * height // source[1]), height
    return width, max(1, source[1] * width // source[0])


def _centred(scaled: Size, target: Size) -> Placement:
    left, top = (t // 2 - s // 2 for s, t in zip(scaled, target, strict=True))
    return Placement(scaled, target, left, top)


def place(scaled: Image.Image, place: Placement) -> Image.Image:
    """Return an image of size `place.scaled` in one of size `place.target`."""
    if place.scaled == place.target:
        return scaled
    whole = Image.new(scaled.mode, place.target)
    whole.paste(scaled, (place.left, place.top))
    if not place.covers:
        _continue_edges(whole, *place.used.corners)
    return whole


def _continue_edges(whole: Image.Image, left: int, top: int, right: int, bottom: int) -> None:
    """Repeat the pixels at the edges of a box up to the edges of the image."""
    width, height = whole.size
    for edge, start, end in ((left, 0, left), (right - 1, right, width)):
        column = whole.crop((edge, top, edge + 1, bottom))
        if end > start:
            whole.paste(_repeated(column, (end - start, bottom - top)), (start, top))
    for edge, start, end in ((top, 0, top), (bottom - 1, bottom, height)):
        row = whole.crop((0, edge, width, edge + 1))
        if end > start:
            whole.paste(_repeated(row, (width, end - start)), (0, start))


def _repeated(edge: Image.Image, size: Size) -> Image.Image:
    return edge.resize(size, Image.Resampling.NEAREST)
