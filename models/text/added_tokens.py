"""Tokens that were added to a published tokenizer, with the rules by which text matches them.

Of the files, as transformers 5 reads them:

    tokenizer_config.json    added_tokens_decoder; without it the next three
    added_tokens.json        token -> id, matched in normalised text
    tokenizer.json           added_tokens
    special_tokens_map.json  named special tokens, additional_special_tokens
    tokenizer_config.json    additional_special_tokens, extra_special_tokens, *_token

Each token has the next free id, in the order of the ids in the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_json

Config = Mapping[str, Any]  # tokenizer_config.json

NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def with_special_tokens(folder: Path, config: Config) -> dict[str, Any]:
    """Return the configuration with the named tokens of `special_tokens_map.json`.

    Raises CheckpointError.
    """
    path = folder / "special_tokens_map.json"
    if "added_tokens_decoder" in config or not path.is_file():
        return dict(config)
    return {**config, **read_json(path)}


def added_tokens(folder: Path, config: Config) -> list[tuple[int | None, AddedToken]]:
    """Return the added tokens in order, each with its id; None for one that gets the next.

    config: with the tokens of `special_tokens_map.json`.

    Raises CheckpointError for an entry that is not understood.
    """
    numbered: dict[int, AddedToken] = {}
    for source, number, entry in _numbered(folder, config):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise CheckpointError(f"{source}: {number!r} is no id of a token")
        numbered[number] = _token(source, entry)
    found: dict[str, tuple[int | None, AddedToken]] = {}
    for number in sorted(numbered):
        found.setdefault(numbered[number].content, (number, numbered[number]))
    for entry in _special(config):
        token = _token(str(folder / "tokenizer_config.json"), entry, special=True)
        found.setdefault(token.content, (None, token))
    return list(found.values())


def _numbered(folder: Path, config: Config) -> Iterator[tuple[str, object, object]]:
    """Yield the source, the id and the entry of each token with an id in the files."""
    if "added_tokens_decoder" in config:
        source = f"{folder / 'tokenizer_config.json'}: added_tokens_decoder"
        decoder = config["added_tokens_decoder"]
        if not isinstance(decoder, dict):
            raise CheckpointError(f"{source} is no JSON object")
        for number, entry in decoder.items():
            yield source, int(number) if _NUMBER.fullmatch(number) else number, entry
        return
    path = folder / "added_tokens.json"
    special = {content_of(entry) for entry in _special(config)}
    special |= {content_of(config[name]) for name in NAMED if config.get(name)}
    for content, number in read_json(path).items() if path.is_file() else ():
        flags = {"normalized": content not in special, "special": content in special}
        yield str(path), number, {"content": content, **flags}
    path = folder / "tokenizer.json"
    if path.is_file():
        for entry in _list(path, read_json(path).get("added_tokens") or []):
            yield str(path), entry.get("id"), entry


def _list(path: Path, entries: object) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointError(f"{path}: added_tokens is no list of JSON objects")
    return entries


def _special(config: Config) -> Iterator[object]:
    """Yield the special tokens without an id in the configuration."""
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    if not isinstance(extra, dict | list):
        raise CheckpointError(f"additional_special_tokens are {extra!r}, not a list")
    yield from (extra.values() if isinstance(extra, dict) else extra)
    for key, value in config.items():
        if key.endswith("_token") and key not in NAMED and isinstance(value, str | dict):
            yield value


def _token(source: str, entry: object, *, special: bool = False) -> AddedToken:
    """Return the token of an entry: its text, or an object with the text and flags."""
    content, flags = content_of(entry), entry if isinstance(entry, dict) else {}
    if not content:
        raise CheckpointError(f"{source}: {entry!r} is no token")
    given = {flag: bool(flags[flag]) for flag in _FLAGS if flag in flags}
    return AddedToken(content, **{"special": special, **given})


def content_of(entry: object) -> str:
    """Return the text of a token, which files give as a string or as an object."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else ""


def add_tokens(
    backend: Backend,
    tokens: Iterable[tuple[int | None, AddedToken]],
    source: Path,
    unmatched: Mapping[str, int],
) -> dict[str, int]:
    """Add tokens to a backend, and return the id of each.

    unmatched: ids of tokens of the vocabulary that text does not match.

    Raises CheckpointError for a token with another id in the files than here.
    """
    ids: dict[str, int] = {}
    for number, token in tokens:
        text = token.content
        known = unmatched.get(text, backend.token_to_id(text))
        found = backend.get_vocab_size() if known is None else known
        if number not in (None, found):
            raise CheckpointError(
                f"{source}: the added token {text!r} has the id {number}, but would be {found}"
            )
        if text not in unmatched:
            backend.add_tokens([token])
            ids[text] = found
    return ids
