"""Pictures for tests to send, and to look at what came back."""

import base64
import io

import numpy as np
from PIL import Image


def gradient(width: int = 64, height: int = 64) -> Image.Image:
    """An RGB image in which no two rows or columns are alike."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8))


def left_half_white(width: int = 64, height: int = 64) -> Image.Image:
    """A mask of which the left half is to be repainted."""
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
    """A picture from an answer: bytes, or base64."""
    image = Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    image.load()
    return image


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.tobytes()
