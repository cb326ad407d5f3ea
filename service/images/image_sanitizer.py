"""Sanitizer of PNG and JPEG files, applied before a decoder opens them.

Decoders keep each part in memory and process each scan, so a file of a few megabytes with a huge
number of parts takes gigabytes of memory, or minutes: the number is limited. Parts that are not
needed to decode the image (comments, thumbnails, EXIF, a second file format) are removed, so that
their parsers never see untrusted data. The EXIF orientation is read here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from protocol.errors import InvalidRequest

MAX_PARTS = 20_000  # chunks of a PNG, segments of a JPEG; PNG chunks often have 4 KiB
MAX_SCANS = 100  # of a JPEG; each costs a pass over the whole image, and ten are usual

PNG = b"\x89PNG\r\n\x1a\n"
PNG_IMAGE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"IDAT", b"IEND"})
PNG_EXIF = b"eXIf"

JPEG = b"\xff\xd8"
# A JPEG marker is 0xff and a byte; the bytes excluded here belong to a scan or have no segment.
# Any number of 0xff may come before. Only the last one is matched: matching all takes quadratic
# time.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
END_OF_IMAGE, START_OF_SCAN, COMMENT = 0xD9, 0xDA, 0xFE
APPLICATION_SEGMENTS = range(0xE0, 0xF0)
JFIF, EXIF, ICC, ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
EXIF_HEADER = b"Exif\0\0"

ORIENTATION, SHORT = 0x0112, 3  # an EXIF tag and its type


@dataclass(frozen=True)
class Part:
    """A PNG chunk or JPEG segment: its type, and its start and end in the file."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True)
class SanitizedImage:
    """An image file without its other parts, and the EXIF block removed from it."""

    data: bytes
    exif: bytes = b""


def sanitize_image(field: str, data: bytes) -> SanitizedImage:
    """Remove all parts of a PNG or JPEG file that are not needed to decode the image.

    Other formats are returned unchanged. Raises `InvalidRequest` for a file with more than
    `MAX_PARTS` parts or `MAX_SCANS` scans.
    """
    if data.startswith(PNG):
        return _sanitize_png(field, data)
    if data.startswith(JPEG):
        return _sanitize_jpeg(field, data)
    return SanitizedImage(data)


def _sanitize_png(field: str, data: bytes) -> SanitizedImage:
    parts = _limited(field, _chunks(data))
    needed = [part for part in parts if part.kind in PNG_IMAGE_CHUNKS]
    exif = [data[part.start + 8 : part.end - 4] for part in parts if part.kind == PNG_EXIF]
    return SanitizedImage(_joined(PNG, data, needed), exif[0] if exif else b"")


def _sanitize_jpeg(field: str, data: bytes) -> SanitizedImage:
    parts = _limited(field, _segments(data))
    scans = sum(part.kind[0] == START_OF_SCAN for part in parts)
    if scans > MAX_SCANS:
        raise _too_complex(field, MAX_SCANS, "scans")
    needed = [part for part in parts if _is_needed(part, data)]
    blocks = [data[part.start + 4 : part.end] for part in parts if part.kind[0] == EXIF]
    exif = [block for block in blocks if block.startswith(EXIF_HEADER)]
    return SanitizedImage(_joined(JPEG, data, needed), exif[0] if exif else b"")


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 (upright) if it has no valid one."""
    tiff = exif.removeprefix(EXIF_HEADER)
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 1

    def number(offset: int, size: int) -> int:
        return int.from_bytes(tiff[offset : offset + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    for index in range(number(directory, 2)):
        entry = directory + 2 + 12 * index
        if entry + 12 > len(tiff):
            break
        tag, kind, count = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4)
        if (tag, kind, count) == (ORIENTATION, SHORT, 1):
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def _chunks(png: bytes) -> Iterator[Part]:
    """Yield the chunks of a PNG: four bytes of length, four of type, the data, four of CRC."""
    start = len(PNG)
    while start + 8 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        yield Part(png[start + 4 : start + 8], start, end)
        start = end


def _segments(jpeg: bytes) -> Iterator[Part]:
    """Yield the segments of a JPEG up to the end of the image.

    A segment has a marker, a length and data; the data of a scan continue to the next marker.
    """
    marker = MARKER.search(jpeg, len(JPEG))
    while marker:
        length = 0 if marker[1][0] == END_OF_IMAGE else _length(jpeg, marker.end())
        following = MARKER.search(jpeg, marker.end() + length) if length else None
        is_scan = marker[1][0] == START_OF_SCAN
        end = following.start() if following and is_scan else marker.end() + length
        yield Part(marker[1], marker.start(), len(jpeg) if is_scan and not following else end)
        marker = following


def _length(jpeg: bytes, offset: int) -> int:
    """Return the length of a segment; at least 2, because the length field counts itself."""
    return max(2, int.from_bytes(jpeg[offset : offset + 2], "big"))


def _is_needed(part: Part, jpeg: bytes) -> bool:
    kind = part.kind[0]
    if kind == ICC:  # the same marker is used for other data too
        return jpeg[part.start : part.end].find(b"ICC_PROFILE\0", 0, 24) >= 0
    return kind in (JFIF, ADOBE) or (kind not in APPLICATION_SEGMENTS and kind != COMMENT)


def _joined(signature: bytes, data: bytes, parts: list[Part]) -> bytes:
    return signature + b"".join(data[part.start : part.end] for part in parts)


def _limited(field: str, parts: Iterator[Part]) -> list[Part]:
    first = list(islice(parts, MAX_PARTS + 1))
    if len(first) > MAX_PARTS:
        raise _too_complex(field, MAX_PARTS, "parts")
    return first


def _too_complex(field: str, limit: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        field, f"a file of more {what}", f"a file of at most {limit} {what}", "image-too-complex"
    )
