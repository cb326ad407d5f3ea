"""Classes, alone or in boxes: by their numbers, or by the names that an operator has given them.

What a number means is known to whoever has trained the model; no published file says it.
"""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.request import MOST_BOXES, Box, ClassId, Name, Place
from protocol.request.validation_errors import NAME, NUMBER

ROUNDING = 1e-6  # of shares that a client has added up


def _kind(value: object) -> str:
    return NAME if isinstance(value, str) else NUMBER


# Told apart by what was said, so that what is wrong with it is told of one of them only.
ClassWord = Annotated[
    Annotated[ClassId, Tag(NUMBER)] | Annotated[Name, Tag(NAME)], Discriminator(_kind)
]


class AskedBox(Place):
    """A place for something of a class, as a client says it."""

    what: ClassWord = Field(alias="class", description="One of the model's classes.")


AskedBoxes = Annotated[tuple[AskedBox, ...], Field(min_length=1, max_length=MOST_BOXES)]


def chosen_class(what: int | str | None, card: ModelCard, field: str = "class_id") -> int | None:
    """The number of the class that a client means. Raises `InvalidRequest` if there is none."""
    if what is None:
        return None
    if isinstance(what, str):
        if what not in card.class_names:
            named = "one of its class_names" if card.class_names else "a number: it names none"
            raise InvalidRequest(field, what, f"a class of {card.name}, {named}", "unknown-class")
        return card.class_names.index(what)
    if what >= card.classes:
        raise InvalidRequest(field, what, f"at most {card.classes - 1}", "unknown-class")
    return what


def chosen_boxes(asked: tuple[AskedBox, ...] | None, card: ModelCard) -> tuple[Box, ...] | None:
    """The boxes with the numbers of their classes. Raises `InvalidRequest` for what does not fit
    into the picture, or for more than the model can read."""
    if asked is None:
        return None
    if len(asked) > card.max_boxes:
        bound = f"at most {card.max_boxes} of them"
        raise InvalidRequest("boxes", len(asked), bound, "too-many-boxes")
    return tuple(_box(f"boxes.{i}", box, card) for i, box in enumerate(asked))


def _box(field: str, box: AskedBox, card: ModelCard) -> Box:
    class_id = chosen_class(box.what, card, f"{field}.class")
    for side, start, extent in (("width", box.x, box.width), ("height", box.y, box.height)):
        if start + extent > 1 + ROUNDING:
            bound = "so small that the box ends inside the picture"
            raise InvalidRequest(f"{field}.{side}", extent, bound, "box-outside")
    return Box.model_validate(box.model_dump() | {"class": class_id})
