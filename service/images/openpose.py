"""Images of poses as ControlNets for OpenPose read them.

The points and their order are those of OpenPose (Cao et al. 2019): 18 of the body in COCO's order,
21 of a hand from the wrist to the little finger's tip, and up to 70 of a face. The colours and
sizes are those of the images with which the ControlNets were trained (lllyasviel/ControlNet).
"""

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

BODY_POINTS, HAND_POINTS, FACE_POINTS = 18, 21, 70

Point = tuple[float, float]  # x, y in pixels
Points = Sequence[Point | None]  # None: not seen
Colour = tuple[int, int, int]

# By the numbers of their points, from 0: neck to shoulders, arms, legs, head.
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
COLOURS: tuple[Colour, ...] = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
LIMB_LIGHT = 0.6  # of a limb's colour
LIMB_RADIUS = POINT_RADIUS = 4
CORNERS = 72  # of the ellipse of a limb
FINGERS = tuple((0, *range(first, first + 4)) for first in range(1, HAND_POINTS, 4))
BONE_WIDTH, FACE_RADIUS = 2, 3
HAND_POINT, FACE_POINT = (0, 0, 255), (255, 255, 255)


@dataclass(frozen=True)
class Pose:
    """The points of a person; a part without any is left out."""

    body: Points = ()
    hands: tuple[Points, ...] = ()
    face: Points = ()


def render_poses(poses: Sequence[Pose], size: tuple[int, int]) -> Image.Image:
    """Return poses on black, in RGB."""
    image = Image.new("RGB", size)
    canvas = ImageDraw.Draw(image)
    for pose in poses:
        _add_body(canvas, pose.body)
    for pose in poses:
        for hand in pose.hands:
            _add_hand(canvas, hand)
        _add_points(canvas, pose.face, FACE_RADIUS, [FACE_POINT] * len(pose.face))
    return image


def _add_body(canvas: ImageDraw.ImageDraw, points: Points) -> None:
    for (one, other), colour in zip(_bones(LIMBS, points), COLOURS, strict=False):
        if one is not None and other is not None:
            dark = tuple(int(LIMB_LIGHT * part) for part in colour)
            canvas.polygon([*_ellipse(one, other)], dark)
    _add_points(canvas, points, POINT_RADIUS, COLOURS)


def _add_hand(canvas: ImageDraw.ImageDraw, points: Points) -> None:
    bones = [bone for finger in FINGERS for bone in pairwise(finger)]
    for i, (one, other) in enumerate(_bones(bones, points)):
        if one is not None and other is not None:
            colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(i / len(bones), 1, 1))
            canvas.line([one, other], colour, BONE_WIDTH)
    _add_points(canvas, points, POINT_RADIUS, [HAND_POINT] * len(points))


def _bones(
    ends: Sequence[tuple[int, int]], points: Points
) -> Iterator[tuple[Point | None, Point | None]]:
    return ((points[one], points[other]) for one, other in (ends if points else ()))


def _add_points(
    canvas: ImageDraw.ImageDraw, points: Points, radius: int, colours: Sequence[Colour]
) -> None:
    for point, colour in zip(points, colours, strict=False):
        if point is not None:
            canvas.circle(point, radius, colour)


def _ellipse(one: Point, other: Point) -> Iterator[Point]:
    """Yield the corners of an ellipse between two points."""
    x, y = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
    dx, dy = (one[0] - other[0]) / 2, (one[1] - other[1]) / 2
    length = math.hypot(dx, dy)
    cos, sin = (dx / length, dy / length) if length else (1.0, 0.0)
    for i in range(CORNERS):
        angle = 2 * math.pi * i / CORNERS
        along, across = length * math.cos(angle), LIMB_RADIUS * math.sin(angle)
        yield x + cos * along - sin * across, y + sin * along + cos * across
