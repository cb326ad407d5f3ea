"""Outpainting: an image in a larger one, whose border is generated in rounds.

The canvas is the result, or larger where the result is smaller than what the model generates at
once. Each round generates a window of the canvas, in the size the model generates best, and what
an earlier round has generated is known to those that follow.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.record import Int, Record
from protocol.request import fields
from protocol.request.fields import WHOLE
from protocol.request.inpainting import PixelBox

OVERLAP = 4  # a window shares at least 1 / OVERLAP of its side with the next
MAX_BORDER = fields.MAX_SIDE  # pixels
MAX_EDGE_BLEND = 256  # pixels


class Anchor(StrEnum):
    """The place of the image in a result of a requested size."""

    CENTER = "center"
    TOP = "top"
    BOTTOM = "bottom"
    LEFT = "left"
    RIGHT = "right"
    TOP_LEFT = "top-left"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_RIGHT = "bottom-right"

    def before(self, free: int, start: str, end: str) -> int:
        """Return how many of the `free` pixels of an axis are before the image.

        start, end: the sides of that axis, such as left and right.
        """
        sides = self.value.split("-")
        return 0 if start in sides else free if end in sides else free // 2


Border = Annotated[Int, Field(ge=0, le=MAX_BORDER), WHOLE]
EdgeBlend = Annotated[Int, Field(ge=0, le=MAX_EDGE_BLEND), WHOLE]


class Outpainting(Record):
    """A canvas of `width` x `height`, the places of `result` and `image` in it, and its windows.

    Up to `blend` pixels of the image at the edges next to its border are blended with the border.
    """

    width: fields.Side
    height: fields.Side
    result: PixelBox
    image: PixelBox
    window_width: fields.Side
    window_height: fields.Side
    blend: EdgeBlend

    @model_validator(mode="after")
    def _boxes_are_inside(self) -> Self:
        canvas = PixelBox(left=0, top=0, width=self.width, height=self.height)
        window = canvas.model_copy(
            update={"width": self.window_width, "height": self.window_height}
        )
        if not (contains(canvas, self.result) and contains(self.result, self.image)):
            raise ValueError("the image must be inside the result, and that inside the canvas")
        if not contains(canvas, window):
            raise ValueError("the windows must be smaller than the canvas")
        _ = self.kept  # raises ValueError if nothing is left of the image
        return self

    @property
    def rounds(self) -> list[PixelBox]:
        """The windows in the order in which they are generated, from the image outwards.

        Each overlaps the one before it in its row or column, which is known by then; the first of
        all has the centre of the image. Windows that would generate nothing of the result are
        left out.
        """
        across, down = self._spans

        def distance(cell: tuple[int, int]) -> int:
            return abs(cell[0] - down.first) + abs(cell[1] - across.first)

        cells = sorted(product(range(len(down.starts)), range(len(across.starts))), key=distance)
        return [
            PixelBox(
                left=across.starts[x],
                top=down.starts[y],
                width=self.window_width,
                height=self.window_height,
            )
            for y, x in cells
            if not (down.known[y] and across.known[x])
        ]

    @property
    def round_count(self) -> int:
        """The number of rounds, which takes less time than `rounds`."""
        across, down = self._spans
        return len(across.starts) * len(down.starts) - sum(across.known) * sum(down.known)

    @property
    def _spans(self) -> tuple["_Spans", "_Spans"]:
        """The windows' places on both axes."""
        image, result = self.image.corners, self.result.corners
        return (
            _spans(self.width, self.window_width, image[::2], result[::2]),
            _spans(self.height, self.window_height, image[1::2], result[1::2]),
        )

    @property
    def kept(self) -> PixelBox:
        """The image without its blended edges."""
        (left, top, right, bottom), result = self.image.corners, self.result.corners
        left, top = left + self.blend * (left > result[0]), top + self.blend * (top > result[1])
        right -= self.blend * (right < result[2])
        bottom -= self.blend * (bottom < result[3])
        return PixelBox(left=left, top=top, width=right - left, height=bottom - top)

    @property
    def pixels(self) -> int:
        """The pixels of all rounds together."""
        return self.round_count * self.window_width * self.window_height


def contains(outer: PixelBox, inner: PixelBox) -> bool:
    """Return True if the outer box has every pixel of the inner one."""
    (left, top, right, bottom), corners = outer.corners, inner.corners
    return left <= corners[0] and top <= corners[1] and corners[2] <= right and corners[3] <= bottom


def window_starts(length: int, side: int) -> list[int]:
    """Return where windows of `side` begin that lie evenly and cover an axis of `length`."""
    free = length - side
    gaps = -(-free // (side - side // OVERLAP))
    return [round(n * free / max(1, gaps)) for n in range(gaps + 1)]


@dataclass(frozen=True)
class _Spans:
    """The places of windows on one axis, and the number of the one nearest to the image's centre.

    known: the part of each that is in the result is in the image, too.
    """

    starts: list[int]
    known: list[bool]
    first: int


def _spans(length: int, side: int, image: tuple[int, ...], result: tuple[int, ...]) -> _Spans:
    """Return the windows of an axis; `image` and `result` are ranges of it."""
    starts = window_starts(length, side)
    known = [
        max(start, result[0]) >= image[0] and min(start + side, result[1]) <= image[1]
        for start in starts
    ]
    distances = [abs(2 * start + side - sum(image)) for start in starts]
    return _Spans(starts, known, distances.index(min(distances)))


def outpainting(
    size: tuple[int, int],
    borders: tuple[int, int, int, int],
    window: tuple[int, int],
    blend: int,
) -> Outpainting:
    """Return an image of `size` with borders (left, top, right, bottom) on a canvas."""
    left, top, right, bottom = borders
    width, before = _axis(size[0], left, right, window[0])
    height, above = _axis(size[1], top, bottom, window[1])
    result = PixelBox(
        left=before, top=above, width=left + size[0] + right, height=top + size[1] + bottom
    )
    image = PixelBox(left=before + left, top=above + top, width=size[0], height=size[1])
    return Outpainting(
        width=width,
        height=height,
        result=result,
        image=image,
        window_width=window[0],
        window_height=window[1],
        blend=blend,
    )


def _axis(side: int, before: int, after: int, window: int) -> tuple[int, int]:
    """Return the canvas' length on one axis, and where the result begins in it.

    What is too much is where the borders are, in proportion to them.
    """
    length = before + side + after
    free = max(0, window - length)
    share = free * before // (before + after) if before + after else free // 2
    return length + free, share
