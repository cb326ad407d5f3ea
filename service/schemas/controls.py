"""ControlNets as clients name them: each with its picture, in JSON inside, in a form beside."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_CONTROLS
from protocol.request.request import Control
from service.schemas.data_uri import upload_bytes

# The files of a form that belong to its controls, in their order.
FILES = tuple(f"control_image_{i}" for i in range(MAX_CONTROLS))
OF_A_FILE = "The picture of `controls` {i}, counted from 0: a PNG, JPEG or WebP file."


class ControlFile(Control):
    """A ControlNet and the picture that it is shown, brought to the size that is drawn."""

    image: Annotated[
        bytes,
        WithJsonSchema(
            {
                "type": "string",
                "contentEncoding": "base64",
                "description": "A PNG, JPEG or WebP file as base64 or data URI. In a form it is "
                f"left out here, and sent as the file {FILES[0]}, {FILES[1]}, …",
            }
        ),
    ]


def _decoded(value: object) -> object:
    """The list with bytes for base64. Raises `InvalidRequest` that names the place."""
    if not isinstance(value, list) or len(value) > MAX_CONTROLS:
        return value
    return [_with_bytes(f"controls.{i}.image", control) for i, control in enumerate(value)]


def _with_bytes(field: str, control: object) -> object:
    if not isinstance(control, dict) or "image" not in control:
        return control
    return {**control, "image": upload_bytes(field, control["image"])}


ControlFiles = Annotated[
    tuple[ControlFile, ...], Field(max_length=MAX_CONTROLS), BeforeValidator(_decoded)
]


def filled(fields: dict[str, object]) -> dict[str, object]:
    """The fields of a form, with each control's file in its place.

    Raises `InvalidRequest` for files that belong to no control, and for pictures sent twice.
    """
    files = {name: fields[name] for name in FILES if name in fields}
    if not files:
        return fields
    listed = fields.get("controls")
    controls = list(listed) if isinstance(listed, list) else []
    for name, file in files.items():
        place = FILES.index(name)
        if place >= len(controls) or not isinstance(controls[place], dict):
            bound = f"left out, for controls has no entry {place}"
            raise InvalidRequest(name, "given", bound, "not-for-this-task")
        if "image" in controls[place]:
            bound = f"left out, or sent without controls.{place}.image"
            raise InvalidRequest(name, "given", bound, "given-twice")
        controls[place] = {**controls[place], "image": file}
    kept = {name: value for name, value in fields.items() if name not in files}
    return {**kept, "controls": controls}
