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
from service.images.exif import EXIF_HEADER, ORIENTATION, ExifBlock

MAX_PARTS = 20_000  # chunks of a PNG, segments of a JPEG; PNG chunks often have 4 KiB
MAX_SCANS = 100  # of a JPEG; each costs a pass over the whole image, and ten are usual

PNG = b"\x89PNG\r\n\x1a\n"
PNG_IMAGE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"IDAT", b"IEND"})
PNG_EXIF, PNG_ANIMATION = b"eXIf", b"acTL"

JPEG = b"\xff\xd8"
# A JPEG marker is 0xff and a byte; the bytes excluded here belong to a scan or have no segment.
# Any number of 0xff may come before. Only the last one is matched: matching all takes quadratic
# time.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
END_OF_IMAGE, START_OF_SCAN, COMMENT = 0xD9, 0xDA, 0xFE
APPLICATION_SEGMENTS = range(0xE0, 0xF0)
JFIF, EXIF, ICC, ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
COEFFICIENT_BYTES = 2


@dataclass(frozen=True)
class Part:
    """A PNG chunk or JPEG segment: its type, and its start and end in the file."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True)
class SanitizedImage:
    """An image file without its other parts, and the EXIF block removed from it.

    `coefficient_bytes`: what a decoder keeps until the last scan of a JPEG with several scans.
    """

    data: bytes
    exif: bytes = b""
    is_animated: bool = False
    coefficient_bytes: int = 0


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
    parts = limited(field, png_chunks(data))
    needed = [part for part in parts if part.kind in PNG_IMAGE_CHUNKS]
    exif = [data[part.start + 8 : part.end - 4] for part in parts if part.kind == PNG_EXIF]
    is_animated = any(part.kind == PNG_ANIMATION for part in parts)
    return SanitizedImage(_joined(PNG, data, needed), exif[0] if exif else b"", is_animated)


def _sanitize_jpeg(field: str, data: bytes) -> SanitizedImage:
    parts = limited(field, jpeg_segments(data))
    scans = sum(part.kind[0] == START_OF_SCAN for part in parts)
    if scans > MAX_SCANS:
        raise _too_complex(field, MAX_SCANS, "scans")
    needed = [part for part in parts if _is_needed(part, data)]
    blocks = [data[part.start + 4 : part.end] for part in parts if part.kind[0] == EXIF]
    exif = [block for block in blocks if block.startswith(EXIF_HEADER)]
    return SanitizedImage(
        _joined(JPEG, data, needed),
        exif[0] if exif else b"",
        coefficient_bytes=_coefficient_bytes(data, parts),
    )


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 (upright) if it has no valid one."""
    block = ExifBlock.of(exif)
    value = 0 if block is None else block.short(ORIENTATION)
    return value if 1 <= value <= 8 else 1


def png_chunks(png: bytes) -> Iterator[Part]:
    """Yield the chunks of a PNG: four bytes of length, four of type, the data, four of CRC."""
    start = len(PNG)
    while start + 8 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        yield Part(png[start + 4 : start + 8], start, end)
        start = end


def jpeg_segments(jpeg: bytes) -> Iterator[Part]:
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


def _coefficient_bytes(jpeg: bytes, parts: list[Part]) -> int:
    """Return the size of all coefficients, 0 if one scan has them all and none is kept."""
    frames = [part for part in parts if part.kind[0] in START_OF_FRAME]
    first_scan = next((part for part in parts if part.kind[0] == START_OF_SCAN), None)
    if not frames or first_scan is None:
        return 0
    largest, components, progressive = 0, 0, False
    for frame in frames:
        head = jpeg[frame.start + 4 : frame.end]  # precision, height, width, then the components
        height, width = int.from_bytes(head[1:3]), int.from_bytes(head[3:5])
        samplings = [(byte >> 4, byte & 15) for byte in head[7::3]]
        areas = sum(across * down for across, down in samplings)
        finest = max((across * down for across, down in samplings), default=1) or 1
        largest = max(largest, width * height * areas // finest)
        components = max(components, len(samplings))
        progressive = progressive or frame.kind[0] in PROGRESSIVE
    in_scan = jpeg[first_scan.start + 4]
    return COEFFICIENT_BYTES * largest if progressive or in_scan < components else 0


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


def limited(field: str, parts: Iterator[Part]) -> list[Part]:
    """Return all parts. Raises `InvalidRequest` if there are more than `MAX_PARTS`."""
    first = list(islice(parts, MAX_PARTS + 1))
    if len(first) > MAX_PARTS:
        raise _too_complex(field, MAX_PARTS, "parts")
    return first


def _too_complex(field: str, limit: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        field, f"a file of more {what}", f"a file of at most {limit} {what}", "image-too-complex"
    )
