"""Images for tests to send, and helpers to check responses."""

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image


def gradient(width: int = 64, height: int = 64) -> Image.Image:
    """Return an RGB image in which all rows and all columns differ."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8))


def left_half_white(width: int = 64, height: int = 64) -> Image.Image:
    """Return a mask whose left half is white."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask


def packed(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(data: bytes | str) -> Image.Image:
    """Return an image of a response from bytes or base64."""
    image = Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    image.load()
    return image


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.tobytes()


def profile(red: str = "red", green: str = "green", blue: str = "blue") -> bytes:
    """Return an ICC profile of linear sRGB whose channels have the given primaries."""
    xyz = {
        "red": (0.43607, 0.22249, 0.01392),
        "green": (0.38515, 0.71687, 0.09708),
        "blue": (0.14307, 0.06061, 0.71410),
    }
    curve = b"curv" + struct.pack(">4xIH2x", 1, 256)  # gamma 1.0
    tags = {
        b"desc": b"desc" + struct.pack(">4xI", 2) + b"x\0" + bytes(79),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(*xyz[red]),
        b"gXYZ": _xyz(*xyz[green]),
        b"bXYZ": _xyz(*xyz[blue]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s", offset + len(body), b"", 0x02100000, b"mntr", b"RGB ", b"XYZ "
    )
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + _xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return `png` with more chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Return `jpeg` with more segments at its start; each is a marker byte and its data."""
    encoded = (b"\xff" + s[:1] + struct.pack(">H", len(s) + 1) + s[1:] for s in segments)
    return jpeg[:2] + b"".join(encoded) + jpeg[2:]
