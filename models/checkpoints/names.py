"""Names of models and extra networks: of any script, and safe as file names.

A name is in the normal form NFC, so that equal letters are equal names, whichever program wrote
them. It is used in paths, Redis keys, log lines and prompts. Therefore only printable characters
are allowed, and none that separates parts of those.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

from models.checkpoints.errors import CheckpointError

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_LENGTH = 200  # characters, as in the API
MAX_BYTES = 240  # in UTF-8: file systems take 255, with the suffix of the file
_MAX_DEFAULT = 200  # bytes of a name made from a source
_SEPARATORS = frozenset('/\\:*?"<>|')  # of paths, keys and prompts; none is a file name on Windows
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_WEIGHTS = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin|pdparams)$")


def normal_form(name: str) -> str:
    """Return `name` in the normal form NFC."""
    return unicodedata.normalize("NFC", name)


def name_problem(name: str) -> str | None:
    """Return the reason that `name`, in its normal form, is no valid name, or None if it is one."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if unsafe := next((c for c in name if c in _SEPARATORS or not c.isprintable()), None):
        return f"the character U+{ord(unsafe):04X} is not allowed in a name"
    if not name or name[0] in ". " or name[-1] in ". ":
        return "a name is not empty, and neither begins nor ends with a dot or a space"
    if len(name) > MAX_LENGTH or size > MAX_BYTES:
        return f"a name has at most {MAX_LENGTH} characters and {MAX_BYTES} bytes, not {size} bytes"
    if _DEVICE.fullmatch(name):
        return "Windows reserves this name for a device"
    return None


def checked_name(name: str) -> str:
    """Return `name` in its normal form. Raises CheckpointError for an invalid name."""
    normal = normal_form(name)
    if problem := name_problem(normal):
        raise CheckpointError(f"{name!r} is no name: {problem}")
    return normal


def default_name(source: str) -> str:
    """Return a valid name for `source`, a path or a hub id: its last part with letters, marks and
    digits of any script, and dashes for everything else."""
    last = source.rstrip("/").rsplit("/", 1)[-1]
    stem = normal_form(_WEIGHTS.sub("", last))
    words = "".join(c if _is_plain(c) else " " for c in stem).split()
    name = _cut("-".join(words).strip("-."))
    return f"model-{name}" if _DEVICE.fullmatch(name) else name or "model"


def _is_plain(character: str) -> bool:
    return character in "-._" or character.isalnum() or unicodedata.category(character)[0] == "M"


def _cut(name: str) -> str:
    return name.encode()[:_MAX_DEFAULT].decode(errors="ignore").rstrip("-.")


def by_name(found: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return the items of a folder by name, sorted.

    Items without a valid name, or with the name of another, are left out and logged once.
    """
    named: dict[str, T] = {}
    for given, item in sorted(found, key=lambda entry: entry[0]):
        name = normal_form(given)
        if problem := name_problem(name):
            _log_left_out(repr(given), problem)
        elif name in named:
            _log_left_out(repr(given), "another has the same name")
        else:
            named[name] = item
    return dict(sorted(named.items()))


@lru_cache(maxsize=1000)
def _log_left_out(name: str, problem: str) -> None:
    logger.warning("not offered", extra={"file": name, "reason": problem})
