"""The binary frames of the WebSocket, which hold images (ComfyUI's protocol.py and server.py)."""

import json
import struct
from collections.abc import Mapping

PREVIEW, PREVIEW_WITH_METADATA = 1, 4  # events
JPEG, PNG = 1, 2  # formats
PNG_START = b"\x89PNG"


def preview(data: bytes) -> bytes:
    """Return an image: the event, the format, the file."""
    kind = PNG if data.startswith(PNG_START) else JPEG
    return struct.pack(">II", PREVIEW, kind) + data


def with_metadata(jpeg: bytes, about: Mapping[str, str]) -> bytes:
    """Return a preview with the node and the prompt that it is of."""
    names = {"display_node_id": about["node_id"], "real_node_id": about["node_id"]}
    text = json.dumps({**about, **names, "image_type": "image/jpeg"}).encode()
    return struct.pack(">II", PREVIEW_WITH_METADATA, len(text)) + text + jpeg
