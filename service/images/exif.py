"""Reader of Exif blocks, which are TIFF files without pixels.

A block can have tens of thousands of entries that all point to the same bytes, so only the entries
that are asked for are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

EXIF_HEADER = b"Exif\0\0"
ORIENTATION, EXIF_DIRECTORY = 0x0112, 0x8769  # tags of the first directory
MAKE, MODEL = 0x010F, 0x0110
MAKER_NOTE, USER_COMMENT = 0x927C, 0x9286  # of the Exif directory
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # bytes of a value, by its type
_ENTRY = 12  # bytes


@dataclass(frozen=True)
class ExifBlock:
    """A block with one of the two byte orders."""

    tiff: bytes
    order: Literal["little", "big"]

    @classmethod
    def of(cls, block: bytes) -> ExifBlock | None:
        """Return the block in `block`, which may have the header of JPEG; None if it is none."""
        tiff = block.removeprefix(EXIF_HEADER)
        match tiff[:4]:
            case b"II*\0":
                return cls(tiff, "little")
            case b"MM\0*":
                return cls(tiff, "big")
            case _:
                return None

    def value(self, tag: int) -> bytes:
        """Return the value of a tag in the first directory, b"" if it has none."""
        return self._value(self._number(4, 4), tag)

    def exif_value(self, tag: int) -> bytes:
        """Return the value of a tag in the Exif directory, b"" if it has none."""
        pointer = self.value(EXIF_DIRECTORY)
        return self._value(int.from_bytes(pointer, self.order), tag) if pointer else b""

    def short(self, tag: int) -> int:
        """Return the number of two bytes in a tag of the first directory, 0 if it has none."""
        value = self.value(tag)
        return int.from_bytes(value, self.order) if len(value) == 2 else 0

    def _value(self, directory: int, tag: int) -> bytes:
        for entry in self._entries(directory):
            if self._number(entry, 2) == tag:
                count = self._number(entry + 4, 4)
                size = count * _SIZES.get(self._number(entry + 2, 2), 0)
                start = entry + 8 if size <= 4 else self._number(entry + 8, 4)
                return self.tiff[start : start + size]
        return b""

    def _entries(self, directory: int) -> Iterator[int]:
        """Yield the offsets of the entries that are whole."""
        for index in range(self._number(directory, 2)):
            entry = directory + 2 + _ENTRY * index
            if entry + _ENTRY > len(self.tiff):
                return
            yield entry

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.tiff[offset : offset + size], self.order)
