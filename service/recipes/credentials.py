"""Content credentials (C2PA) in an image file: their presence, and their validity."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from service.images.image_sanitizer import MAX_PARTS, Part, jpeg_segments, limited, png_chunks
from service.recipes.file_texts import image_format, webp_chunks

CHILD = Path(__file__).with_name("credentials_child.py")
CHILD_BYTES = 2**28  # what it may allocate in addition to a few copies of the file
COPIES = 8
CHILD_CPU_S, CHILD_TIMEOUT_S = 10, 30.0

VALID_STATES = ("Valid", "Trusted")  # of the library
PNG_CREDENTIALS, WEBP_CREDENTIALS = b"caBX", b"C2PA"
JPEG_BOXES, JPEG_IDENTIFIER = 0xEB, b"JP"  # segments of boxes (JPEG XT), which hold manifests
BMFF_CREDENTIALS = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


class CredentialsStatus(StrEnum):
    """The state of content credentials. No list of trusted issuers is used."""

    VALID = "valid"
    INVALID = "invalid"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Credentials:
    """The credentials of a file; all but their status is the signer's own word."""

    status: CredentialsStatus
    issuer: str = ""
    generator: str = ""
    digital_source_type: str = ""
    failures: list[str] = field(default_factory=list)


def read_credentials(name: str, data: bytes) -> Credentials | None:
    """Return the credentials in an image file, the value of the field `name`; None if it has none.

    They are unchecked if c2pa-python is not installed, or if they ask for more time or memory than
    they may take. Nothing is fetched.
    """
    kind = image_format(data)
    if kind is None or not _has_credentials(name, kind, data):
        return None
    if find_spec("c2pa") is None:
        return Credentials(CredentialsStatus.UNCHECKED)
    limits = (str(CHILD_BYTES + COPIES * len(data)), str(CHILD_CPU_S))
    command = [sys.executable, "-I", str(CHILD), *limits, f"image/{kind}"]
    try:
        ended = subprocess.run(
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CHILD_TIMEOUT_S,
            check=True,
        )
    except subprocess.SubprocessError:
        return Credentials(CredentialsStatus.UNCHECKED)
    found = json.loads(ended.stdout)
    state = found.pop("state")
    return Credentials(
        CredentialsStatus.VALID if state in VALID_STATES else CredentialsStatus.INVALID, **found
    )


def _has_credentials(name: str, kind: str, data: bytes) -> bool:
    match kind:
        case "png":
            chunks = limited(name, png_chunks(data))
            return any(part.kind == PNG_CREDENTIALS for part in chunks)
        case "jpeg":
            segments = limited(name, jpeg_segments(data))
            return any(
                part.kind[0] == JPEG_BOXES and data.startswith(JPEG_IDENTIFIER, part.start + 4)
                for part in segments
            )
        case "webp":
            return any(part.kind == WEBP_CREDENTIALS for part in webp_chunks(data))
    return any(part.kind == BMFF_CREDENTIALS for part in islice(_boxes(data), MAX_PARTS))


def _boxes(data: bytes) -> Iterator[Part]:
    """Yield the boxes of an AVIF file: four bytes of length, or eight after the type, and the type.

    The kind is the type with the 16 bytes that follow it.
    """
    start = 0
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4])
        if length == 1:
            length = int.from_bytes(data[start + 8 : start + 16])
        end = start + max(8, length) if length else len(data)
        yield Part(data[start + 4 : start + 24], start, end)
        start = end
