"""Sheets of generated images, each above its prompt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE = 11
_LINE = 14
_CELL = 136


def sheet(pixels: npt.NDArray[np.uint8], prompts: list[str], columns: int = 10) -> Image.Image:
    """Return images (N, H, W, 3) in rows of `columns`, in cells of 136 pixels above their prompts.

    A prompt that is too long for its cell is cut off.
    """
    rows = -(-len(prompts) // columns)
    canvas = Image.new("RGB", (columns * _CELL, rows * (_CELL + _LINE)), "white")
    font = ImageFont.load_default(_FONT_SIZE)
    for i, (image, prompt) in enumerate(zip(pixels, prompts, strict=True)):
        left, top = (i % columns) * _CELL, (i // columns) * (_CELL + _LINE)
        scaled = Image.fromarray(image).resize((_CELL - 8, _CELL - 8), Image.Resampling.LANCZOS)
        canvas.paste(scaled, (left + 4, top + 4))
        text = Image.new("RGB", (_CELL - 4, _LINE), "white")
        ImageDraw.Draw(text).text((0, 0), prompt, "black", font)
        canvas.paste(text, (left + 4, top + _CELL - 2))
    return canvas
