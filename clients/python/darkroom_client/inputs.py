"""Requests as JSON: files as base64."""

import base64
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom_client.records import ExtraFile, ImageFile

FILES = ("image", "mask", "depth_map")


def encoded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request as JSON can hold them, without those that are None.

    Raises:
        TypeError: a file is given as something else.
        OSError: a file cannot be read.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name in FILES:
        if name in given:
            given[name] = _base64(name, given[name])
    if "controls" in given:
        given["controls"] = [encoded(control) for control in given["controls"]]
    return given


def _base64(name: str, value: object) -> str:
    return base64.b64encode(_content(name, value)).decode()


def _content(name: str, value: Any) -> bytes:
    if isinstance(value, ImageFile | ExtraFile):
        return value.content
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return Path(value).read_bytes()
    # Imported already if the value is an image of Pillow.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        file = io.BytesIO()
        value.save(file, "PNG")
        return file.getvalue()
    if hasattr(value, "read") and isinstance(content := value.read(), bytes):
        return content
    # A text may come from somebody else, who must not choose a file of this machine.
    raise TypeError(
        f"{name} is {type(value).__name__}, but must be bytes, a pathlib.Path, an open binary file "
        "or an image"
    )
