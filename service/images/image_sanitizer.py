"""What an image file is made of, looked at before a decoder opens it.

Decoders keep each part and walk through each scan, so a file of a few megabytes that is nothing but
parts takes gigabytes, or minutes: their number is bounded. And most parts are not the picture:
comments, thumbnails, EXIF, whatever a second format hides in. They are left out, so that no parser
of theirs is fed by strangers; how the camera was held is read here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from protocol.errors import InvalidRequest

MOST_PARTS = 20_000  # chunks of a PNG, segments of a JPEG; those of PNG are often of 4 KiB
MOST_SCANS = 100  # of a JPEG; each costs a pass over the whole picture, and ten are usual

PNG = b"\x89PNG\r\n\x1a\n"
PNG_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"IDAT", b"IEND"})
PNG_EXIF = b"eXIf"

JPEG = b"\xff\xd8"
# In JPEG a marker is 0xff and a byte; not these, which belong to a scan or stand alone. Any number
# of 0xff may come before: the last one counts, for matching all of them would take quadratic time.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
END_OF_IMAGE, START_OF_SCAN, COMMENT = 0xD9, 0xDA, 0xFE
APPLICATIONS = range(0xE0, 0xF0)
JFIF, EXIF, ICC, ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
EXIF_HEAD = b"Exif\0\0"

ORIENTATION, SHORT = 0x0112, 3  # a tag of EXIF, and the type it has


@dataclass(frozen=True)
class Part:
    """A chunk or segment: its kind, and where it begins and ends in the file."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True)
class SanitizedImage:
    """A file of the picture alone, and the EXIF block that was in it."""

    data: bytes
    exif: bytes = b""


def strip_metadata(field: str, data: bytes) -> SanitizedImage:
    """`data` without what is no picture; what is neither PNG nor JPEG stays as it is.

    Raises `InvalidRequest` for a file of more parts or scans than any honest one has.
    """
    if data.startswith(PNG):
        parts = _few(field, _chunks(data))
        picture = [part for part in parts if part.kind in PNG_PICTURE]
        exif = [data[part.start + 8 : part.end - 4] for part in parts if part.kind == PNG_EXIF]
        return SanitizedImage(_joined(PNG, data, picture), exif[0] if exif else b"")
    if data.startswith(JPEG):
        parts = _few(field, _segments(data))
        scans = sum(part.kind[0] == START_OF_SCAN for part in parts)
        if scans > MOST_SCANS:
            _refuse(field, MOST_SCANS, "scans")
        picture = [part for part in parts if _is_picture(part, data)]
        blocks = [data[part.start + 4 : part.end] for part in parts if part.kind[0] == EXIF]
        exif = [block for block in blocks if block.startswith(EXIF_HEAD)]
        return SanitizedImage(_joined(JPEG, data, picture), exif[0] if exif else b"")
    return SanitizedImage(data)


def orientation(exif: bytes) -> int:
    """How the camera was held, 1 to 8; 1, upright, where the block does not say so properly."""
    tiff = exif.removeprefix(EXIF_HEAD)
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 1

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    for entry in range(number(directory, 2)):
        place = directory + 2 + 12 * entry
        if place + 12 > len(tiff):
            break
        if (number(place, 2), number(place + 2, 2), number(place + 4, 4)) == (
            ORIENTATION,
            SHORT,
            1,
        ):
            found = number(place + 8, 2)
            return found if 1 <= found <= 8 else 1
    return 1


def _chunks(png: bytes) -> Iterator[Part]:
    """Four bytes of length, four of kind, the data, four of check sum."""
    place = len(PNG)
    while place + 8 <= len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4], "big")
        yield Part(png[place + 4 : place + 8], place, end)
        place = end


def _segments(jpeg: bytes) -> Iterator[Part]:
    """Up to the end of the image. A segment is its marker, its length, its data; a scan goes on."""
    found = MARKER.search(jpeg, len(JPEG))
    while found:
        length = 0 if found[1][0] == END_OF_IMAGE else _length(jpeg, found.end())
        following = MARKER.search(jpeg, found.end() + length) if length else None
        is_scan = found[1][0] == START_OF_SCAN
        end = following.start() if following and is_scan else found.end() + length
        yield Part(found[1], found.start(), len(jpeg) if is_scan and not following else end)
        found = following


def _length(jpeg: bytes, place: int) -> int:
    """What a segment says its length is; at least that of saying so."""
    return max(2, int.from_bytes(jpeg[place : place + 2], "big"))


def _is_picture(part: Part, jpeg: bytes) -> bool:
    kind = part.kind[0]
    if kind == ICC:  # which other things share
        return jpeg[part.start : part.end].find(b"ICC_PROFILE\0", 0, 24) >= 0
    return kind in (JFIF, ADOBE) or (kind not in APPLICATIONS and kind != COMMENT)


def _joined(head: bytes, data: bytes, parts: list[Part]) -> bytes:
    return head + b"".join(data[part.start : part.end] for part in parts)


def _few(field: str, parts: Iterator[Part]) -> list[Part]:
    found = list(islice(parts, MOST_PARTS + 1))
    if len(found) > MOST_PARTS:
        _refuse(field, MOST_PARTS, "parts")
    return found


def _refuse(field: str, most: int, what: str) -> None:
    raise InvalidRequest(
        field, f"a file of more {what}", f"a file of at most {most} {what}", "image-too-complex"
    )
