"""ControlNets in a request: each with its image, inside the JSON or as a file of the form."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_CONTROLS
from protocol.request.inpainting import ResizeMode
from protocol.request.request import Control
from service.schemas.data_uri import decode_file

# The form fields with the images of `controls`, in the order of that list.
FILE_FIELDS = tuple(f"control_image_{i}" for i in range(MAX_CONTROLS))
FILE_DESCRIPTION = "The image of `controls` {i}, counted from 0: a PNG, JPEG, WebP or AVIF file."


ControlImageFile = Annotated[
    bytes,
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "description": "A PNG, JPEG, WebP or AVIF file as base64 or data URI. In a form it is "
            f"left out here, and sent as the file {FILE_FIELDS[0]}, {FILE_FIELDS[1]}, …. "
            "Default: the image of the request.",
        }
    ),
]


class ControlFile(Control):
    """A ControlNet and its control image, which is resized to the size of the result.

    Without one, it is the image that the request starts from; a tile ControlNet needs that.
    """

    image: ControlImageFile | None = None
    resize_mode: ResizeMode = Field(
        default=ResizeMode.STRETCH,
        description="How the control image is resized to another aspect: stretch, crop or fill.",
    )


def _decode_images(value: object) -> object:
    """Decode the images of a list of controls. Raises `InvalidRequest` with the field's path."""
    if not isinstance(value, list) or len(value) > MAX_CONTROLS:
        return value
    return [_decode_image(f"controls.{i}.image", control) for i, control in enumerate(value)]


def _decode_image(field: str, control: object) -> object:
    if not isinstance(control, dict) or control.get("image") is None:
        return control
    return {**control, "image": decode_file(field, control["image"])}


ControlFiles = Annotated[
    tuple[ControlFile, ...], Field(max_length=MAX_CONTROLS), BeforeValidator(_decode_images)
]


def attach_files(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields of a form with each control image moved into its control.

    Raises `InvalidRequest` for a file that belongs to no control, and for an image sent twice.
    """
    files = {name: fields[name] for name in FILE_FIELDS if name in fields}
    if not files:
        return fields
    listed = fields.get("controls")
    controls = list(listed) if isinstance(listed, list) else []
    for name, file in files.items():
        index = FILE_FIELDS.index(name)
        if index >= len(controls) or not isinstance(controls[index], dict):
            bound = f"left out, for controls has no entry {index}"
            raise InvalidRequest(name, "given", bound, "not-for-this-task")
        if controls[index].get("image") is not None:
            bound = f"left out, or sent without controls.{index}.image"
            raise InvalidRequest(name, "given", bound, "given-twice")
        controls[index] = {**controls[index], "image": file}
    others = {name: value for name, value in fields.items() if name not in files}
    return {**others, "controls": controls}
