"""Classes and boxes in a request: a client gives a class by its number, or by the operator's name.

The meaning of a number depends on the training data; no published file contains it.
"""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.fields import MAX_BOXES, ClassId, Name
from protocol.request.model_card import ModelCard
from protocol.request.request import Box, Rectangle
from protocol.request.validation_errors import NAME, NUMBER

ROUNDING = 1e-6  # tolerance for shares that a client has added up


def _kind(value: object) -> str:
    return NAME if isinstance(value, str) else NUMBER


# A discriminated union, so that validation reports errors of the kind that was sent only.
ClassRef = Annotated[
    Annotated[ClassId, Tag(NUMBER)] | Annotated[Name, Tag(NAME)], Discriminator(_kind)
]


class AskedBox(Rectangle):
    """A rectangle for an object of a class, as a client sends it."""

    what: ClassRef = Field(alias="class", description="One of the model's classes.")


AskedBoxes = Annotated[tuple[AskedBox, ...], Field(min_length=1, max_length=MAX_BOXES)]


def resolve_class(
    class_ref: int | str | None, card: ModelCard, field: str = "class_id"
) -> int | None:
    """Return the number of the class, None for None. Raises `InvalidRequest` if there is none."""
    if class_ref is None:
        return None
    if isinstance(class_ref, str):
        if class_ref not in card.class_names:
            names = "one of its class_names" if card.class_names else "a number: it names none"
            bound = f"a class of {card.name}, {names}"
            raise InvalidRequest(field, class_ref, bound, "unknown-class")
        return card.class_names.index(class_ref)
    if class_ref >= card.classes:
        raise InvalidRequest(field, class_ref, f"at most {card.classes - 1}", "unknown-class")
    return class_ref


def resolve_boxes(boxes: tuple[AskedBox, ...] | None, card: ModelCard) -> tuple[Box, ...] | None:
    """Return the boxes with the numbers of their classes.

    Raises `InvalidRequest` for a box that does not end inside the image, and for more boxes than
    the model can read.
    """
    if boxes is None:
        return None
    if len(boxes) > card.max_boxes:
        bound = f"at most {card.max_boxes} of them"
        raise InvalidRequest("boxes", len(boxes), bound, "too-many-boxes")
    return tuple(_resolve_box(f"boxes.{i}", box, card) for i, box in enumerate(boxes))


def _resolve_box(field: str, box: AskedBox, card: ModelCard) -> Box:
    class_id = resolve_class(box.what, card, f"{field}.class")
    edges = (("x", box.x, "width", box.width), ("y", box.y, "height", box.height))
    for edge, start, side, extent in edges:
        if start >= 1:
            raise InvalidRequest(f"{field}.{edge}", start, "below 1", "box-outside")
        if start + extent > 1 + ROUNDING:
            bound = f"at most {exact(1 - start)}, so that the box ends inside the image"
            raise InvalidRequest(f"{field}.{side}", extent, bound, "box-outside")
    return Box.model_validate(box.model_dump() | {"class": class_id})
