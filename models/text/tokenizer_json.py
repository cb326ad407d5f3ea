"""The vocabulary in a `tokenizer.json`, of which transformers 5 writes no other file.

Only the vocabulary is read, and the table of characters of sentence pieces. How text is cut follows
from the kind of the vocabulary, as for the older files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from models.checkpoints.errors import CheckpointError, CheckpointMissing, UnsupportedConfig
from models.checkpoints.files import read_json

FILE = "tokenizer.json"
Kind = Literal["BPE", "WordPiece", "Unigram"]

# Steps before the table of characters and after it that change nothing but spaces, at which text is
# cut anyway.
_OF_SPACES = ("Strip", "Replace")


def kind_of(folder: Path) -> str:
    """Return the kind of the vocabulary in the folder's file. Raises CheckpointError."""
    return str(_model(folder).get("type"))


def vocabulary(folder: Path, kind: Kind) -> dict[str, Any]:
    """Return the entries of a vocabulary of this kind. Raises CheckpointError for another one."""
    model = _model(folder)
    # Old files name no type.
    if model.get("type") not in (kind, None):
        raise UnsupportedConfig(f"{folder / FILE} is of type {model['type']!r}, not {kind!r}")
    wanted: Mapping[str, type] = {"vocab": list if kind == "Unigram" else dict}
    if kind == "BPE":
        wanted = {**wanted, "merges": list}
    for name, of_type in wanted.items():
        if not isinstance(model.get(name), of_type):
            raise CheckpointError(f"{folder / FILE} has no {' and '.join(wanted)} of a {kind}")
    return model


def merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of a `BPE`: texts with a space in older files, lists in newer ones."""
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return [(first, second) for first, second in pairs]


def charsmap(folder: Path) -> bytes:
    """Return the table by which characters are replaced first; empty without one.

    Raises CheckpointError, and UnsupportedConfig for any other replacement.
    """
    compiled = b""
    for step in _steps(read_json(folder / FILE).get("normalizer")):
        kind = step.get("type")
        if kind == "Precompiled":
            compiled = base64.b64decode(str(step.get("precompiled_charsmap")), validate=True)
        elif kind not in _OF_SPACES:
            raise UnsupportedConfig(f"{folder / FILE}: the normalizer {kind!r} is not supported")
    return compiled


def _steps(normalizer: object) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a normalizer, which may be a sequence of others."""
    if not isinstance(normalizer, dict):
        return
    if normalizer.get("type") == "Sequence":
        for step in normalizer.get("normalizers") or ():
            yield from _steps(step)
    else:
        yield normalizer


def special_tokens(folder: Path) -> dict[str, bool]:
    """Return the listed tokens, each with True for one that no text spells."""
    listed = read_json(folder / FILE).get("added_tokens") or []
    tokens = [entry for entry in listed if isinstance(entry, dict)]
    return {str(entry.get("content")): bool(entry.get("special")) for entry in tokens}


def _model(folder: Path) -> dict[str, Any]:
    if not (folder / FILE).is_file():
        raise CheckpointMissing(f"{folder / FILE} is missing")
    model = read_json(folder / FILE).get("model")
    return model if isinstance(model, dict) else {}
