"""The SHA-256 of a checkpoint file, kept beside what was made from it.

A single file of many gigabytes takes seconds to read. Its hash is kept in the folder that the model
is loaded from, which is another one as soon as the file has another path, size or time of change.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_json

MANIFEST, MANIFEST_KEY = "manifest.json", "source_sha256"  # of an installed checkpoint
_KEPT = "checkpoint.sha256"
_HASH = re.compile("[0-9a-f]{64}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept_hash(folder: Path) -> str | None:
    """Return the hash of the file that the model in `folder` was made from, None if not known."""
    with suppress(OSError, ValueError):
        if _HASH.fullmatch(text := (folder / _KEPT).read_text("ascii")):
            return text
    with suppress(CheckpointError):
        noted = read_json(folder / MANIFEST).get(MANIFEST_KEY)
        if isinstance(noted, str) and _HASH.fullmatch(noted):
            return noted
    return None


def keep_hash(folder: Path, digest: str) -> None:
    """Keep the hash of the file that `folder` was made from, unless it cannot be written."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=".hash-", dir=folder)
        with open(handle, "w", encoding="ascii") as file:
            file.write(digest)
        os.replace(name, folder / _KEPT)
