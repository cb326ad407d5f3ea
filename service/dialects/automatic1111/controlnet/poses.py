"""The body of render_openpose_json: poses as OpenPose writes them, rendered as images."""

import base64
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_SIDE
from service.dialects.automatic1111.requests import MAX_BATCH, WebuiBody, parse_body
from service.images.input_images import RGB_BYTES, InputImages, area
from service.images.openpose import (
    BODY_POINTS,
    FACE_POINTS,
    HAND_POINTS,
    Point,
    Points,
    Pose,
    render_poses,
)
from service.images.uploaded_images import canonical

BODY = "pose_data"  # the extension's name of the list of canvases
MAX_PEOPLE = 64  # of a canvas
MAX_COORDINATE = 10 * MAX_SIDE  # a point may lie outside the canvas
NUMBERS = 3  # of a point: x, y, confidence
COPIES = 2  # of a canvas: the image, and its PNG file

Numbers = Sequence[float]


def _all_points(count: int) -> AfterValidator:
    """Check that the numbers are those of so many points, or none."""

    def check(numbers: Numbers) -> Numbers:
        if len(numbers) not in (0, NUMBERS * count):
            raise ValueError(f"{NUMBERS * count} numbers, of {count} points, or none")
        return numbers

    return AfterValidator(check)


def _some_points(numbers: Numbers) -> Numbers:
    """Check that the numbers are those of points of a face."""
    if len(numbers) % NUMBERS or len(numbers) > NUMBERS * FACE_POINTS:
        raise ValueError(f"{NUMBERS} numbers for each of at most {FACE_POINTS} points")
    return numbers


Number = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Body = Annotated[list[Number], _all_points(BODY_POINTS)]
Hand = Annotated[list[Number], _all_points(HAND_POINTS)]
Face = Annotated[list[Number], AfterValidator(_some_points)]


class Person(WebuiBody):
    """The points of a person: x, y and confidence of each in turn; confidence 0 is not seen.

    The points of a part are in pixels, or, if all lie between 0 and 1, in shares of the canvas.
    """

    pose_keypoints_2d: Body = Field(description="18 points of the body, in the order of COCO.")
    hand_right_keypoints_2d: Hand | None = Field(default=None, description="21 points.")
    hand_left_keypoints_2d: Hand | None = Field(default=None, description="21 points.")
    face_keypoints_2d: Face | None = Field(default=None, description="Up to 70 points.")

    def pose(self, size: tuple[int, int]) -> Pose:
        """Return the points in pixels of a canvas."""
        hands = (self.hand_right_keypoints_2d, self.hand_left_keypoints_2d)
        return Pose(
            _points(self.pose_keypoints_2d, size),
            tuple(_points(hand, size) for hand in hands if hand),
            _points(self.face_keypoints_2d or (), size),
        )


class Canvas(WebuiBody):
    """The people of an image, and its size."""

    people: list[Person] = Field(max_length=MAX_PEOPLE)
    canvas_width: int = Field(ge=1, le=MAX_SIDE)
    canvas_height: int = Field(ge=1, le=MAX_SIDE)

    @property
    def size(self) -> tuple[int, int]:
        return self.canvas_width, self.canvas_height


def parse_canvases(given: Sequence[object], max_pixels: int) -> list[Canvas]:
    """Return the canvases of a body. Raises `InvalidRequest` for the first that is wrong."""
    if len(given) > MAX_BATCH:
        raise InvalidRequest(BODY, f"a list of {len(given)}", f"at most {MAX_BATCH}", "too-many")
    return [_canvas(f"{BODY}.{i}", one, max_pixels) for i, one in enumerate(given)]


def _canvas(field: str, given: object, max_pixels: int) -> Canvas:
    if not isinstance(given, dict):
        raise InvalidRequest(field, given, "an object", "wrong-type")
    try:
        canvas = parse_body(Canvas, given)
    except InvalidRequest as error:
        raise type(error)(f"{field}.{error.field}", error.value, error.bound) from error
    if area(canvas.size) > max_pixels:
        name, bound = f"{field}.canvas_width", f"so that the canvas has at most {max_pixels} pixels"
        raise InvalidRequest(name, canvas.canvas_width, bound, "out-of-range")
    return canvas


def rendered(index: int, canvas: Canvas, images: InputImages) -> str:
    """Return the image of a canvas as PNG in base64."""
    width, height = canvas.size
    count = COPIES * RGB_BYTES * area(canvas.size)
    with images.memory.reserved(f"{BODY}.{index}", f"a canvas of {width}x{height}", count):
        poses = [person.pose(canvas.size) for person in canvas.people]
        return base64.b64encode(canonical(render_poses(poses, canvas.size)).png).decode()


def _points(numbers: Numbers, size: tuple[int, int]) -> Points:
    """Return the points in pixels, None for those that were not seen."""
    columns = (numbers[i::NUMBERS] for i in range(NUMBERS))
    seen = [(x, y) if confidence > 0 else None for x, y, confidence in zip(*columns, strict=True)]
    shares = all(0 <= part <= 1 for point in seen if point for part in point)
    scale = size if shares else (1, 1)
    return [point and _scaled(point, scale) for point in seen]


def _scaled(point: Point, scale: tuple[int, int]) -> Point:
    return point[0] * scale[0], point[1] * scale[1]
