"""Colours of icons: names of the main colour, and copies of icons in other colours.

They teach captions such as "a yellow car", for which the icon sets have one colour only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

#: Colour -> its hue in degrees.
HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 125, "blue": 212, "purple": 278, "pink": 330}
COLOURS = frozenset({*HUES, "white", "grey", "black", "brown", "golden", "silver"})

_SATURATED = 0.3
# Hues at most this far from the main one, in degrees, belong to it and change with it.
_NEAR = 35
# Shares of the pixels that are not background.
_COLOURFUL, _OF_ONE_HUE, _OF_NO_HUE = 0.4, 0.75, 0.75


@dataclass(frozen=True)
class Hsv:
    """Hue (S, S) in degrees, saturation and value (S, S) in [0, 1]."""

    hue: npt.NDArray[np.float32]
    saturation: npt.NDArray[np.float32]
    value: npt.NDArray[np.float32]

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Hsv:
        """Convert an image (S, S, 3)."""
        planes = np.asarray(Image.fromarray(pixels).convert("HSV")).astype(np.float32)
        hue, saturation, value = np.moveaxis(planes / np.float32(255), -1, 0)
        return cls(hue * np.float32(360), saturation, value)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the image (S, S, 3)."""
        planes = np.stack([self.hue % 360 / 360, self.saturation, self.value], -1)
        hsv = Image.fromarray(np.rint(planes * 255).astype(np.uint8), "HSV")
        return np.asarray(hsv.convert("RGB"))


def main_hue(image: Hsv) -> float | None:
    """Return the hue in degrees of an icon that has one main colour, else None."""
    icon = (image.saturation > 0.05) | (image.value < 0.95)
    coloured = icon & (image.saturation > _SATURATED) & (image.value > 0.3)
    if not icon.any() or coloured.sum() < _COLOURFUL * icon.sum():
        return None
    counts, _ = np.histogram(image.hue[coloured], bins=72, range=(0, 360))
    wide = sum(np.roll(counts, shift) for shift in range(-2, 3))
    best = 5 * float(np.argmax(wide)) + 2.5
    turns = signed_angle(image.hue, best)
    near = coloured & (np.abs(turns) <= _NEAR)
    if near.sum() < _OF_ONE_HUE * coloured.sum():
        return None
    return float(best + turns[near].mean()) % 360


def signed_angle(hue: npt.NDArray[np.float32] | float, other: float) -> npt.NDArray[np.float32]:
    """Return the angle from `other` to `hue`, in degrees, from -180 to 180."""
    return (np.asarray(hue, np.float32) - np.float32(other) + 180) % 360 - 180


def distance(hue: npt.NDArray[np.float32] | float, other: float) -> npt.NDArray[np.float32]:
    """Return the angle between hues, in degrees, from 0 to 180."""
    return np.abs(signed_angle(hue, other))


def colour_name(pixels: npt.NDArray[np.uint8]) -> str | None:
    """Return the name of an icon's main colour, None if it has several."""
    image = Hsv.of(pixels)
    hue = main_hue(image)
    if hue is None:
        return _grey_name(image)
    name = min(HUES, key=lambda colour: float(distance(hue, HUES[colour])))
    coloured = (image.saturation > _SATURATED) & (distance(image.hue, hue) <= _NEAR)
    dark = float(np.median(image.value[coloured])) < 0.72
    return "brown" if dark and name in ("red", "orange", "yellow") else name


def _grey_name(image: Hsv) -> str | None:
    icon = (image.saturation > 0.05) | (image.value < 0.95)
    grey = icon & (image.saturation < 0.25)
    if not icon.any() or grey.sum() < _OF_NO_HUE * icon.sum():
        return None
    value = float(np.median(image.value[grey]))
    return "black" if value < 0.3 else "grey" if value < 0.8 else "white"


def in_colours(pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.uint8]]:
    """Return an icon (S, S, 3) in every other colour, by name; none if it has several colours."""
    image = Hsv.of(pixels)
    hue = main_hue(image)
    if hue is None:
        return {}
    near = distance(image.hue, hue) <= _NEAR
    result = {}
    for name, wanted in HUES.items():
        if distance(hue, wanted) < _NEAR:
            continue
        moved = np.where(near, image.hue + np.float32(wanted - hue), image.hue)
        result[name] = Hsv(moved, image.saturation, image.value).pixels()
    return result
