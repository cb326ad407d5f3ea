r"""Prompts in ComfyUI's syntax as prompts in ours.

ComfyUI's (comfy/sd1_clip.py): (word) is 1.1 times as strong as what is around it, (word:1.3) is
1.3 times as strong as it is alone, \( and \) are the characters, embedding:name is a textual
inversion. Square brackets, BREAK and <lora:…> are text.
"""

import re
from collections.abc import Collection

STRONGER = 1.1
# Every alternative begins with another character: time is linear in the text.
_TOKENS = re.compile(r"\\[()]|[()]|[^\\()]+|\\")
_WEIGHT = re.compile(r":\s*([+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))\s*$")
_SPECIAL = re.compile(r"[\\()\[\]<]")
_BREAK = re.compile(r"\bBREAK\b")
_EMBEDDING = re.compile(r"embedding:([\w.\-]+)")
_ENDING = re.compile(r"\.(safetensors|pt|bin)$")
DECIMALS = 4
WEIGHT_LENGTH = 24  # characters at the end of a bracket in which its weight stands


class UnknownEmbedding(Exception):
    """A textual inversion that is not here; its name is the argument."""


def our_prompt(text: str, embeddings: Collection[str]) -> str:
    """Return a prompt in our syntax. Raises `UnknownEmbedding`."""
    if not _SPECIAL.search(text):
        return _escaped(text, embeddings)
    return "".join(
        piece if weight == 1 else f"({piece}:{weight:g})"
        for piece, weight in (
            (_escaped(one, embeddings), round(factor, DECIMALS)) for one, factor in _pieces(text)
        )
    )


def _pieces(text: str) -> list[tuple[str, float]]:
    """Return the texts and their weights. A bracket without its partner is text."""
    pieces: list[tuple[str, float]] = []
    around: list[tuple[float, bool]] = []  # of each open bracket: the weight, and if it has one
    partners = _partners(text)
    weight = 1.0
    for token in _TOKENS.finditer(text):
        found, start = token[0], token.start()
        if found == "(" and start in partners:
            given = _given_weight(text, start + 1, partners[start])
            around.append((weight, given is not None))
            weight = weight * STRONGER if given is None else given
        elif found == ")" and start in partners:
            before, has_weight = around.pop()
            if has_weight:
                last, factor = pieces.pop()
                pieces.append((_WEIGHT.sub("", last), factor))
            weight = before
        else:
            pieces.append((found[-1] if found in (r"\(", r"\)") else found, weight))
    return [piece for piece in pieces if piece[0]]


def _partners(text: str) -> dict[int, int]:
    """Return the places of brackets that have a partner, with the place of that."""
    partners: dict[int, int] = {}
    opened: list[int] = []
    for token in _TOKENS.finditer(text):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")" and opened:
            start = opened.pop()
            partners |= {start: token.start(), token.start(): start}
    return partners


def _given_weight(text: str, start: int, end: int) -> float | None:
    """Return the weight at the end of a bracket, None if it has none."""
    found = _WEIGHT.search(text, max(start, end - WEIGHT_LENGTH), end)
    return float(found[1]) if found and found.start() > start else None


def _escaped(text: str, embeddings: Collection[str]) -> str:
    """Return text that our syntax reads as text; CLIP reads no difference between cases."""
    text = _BREAK.sub("break", _EMBEDDING.sub(lambda found: _embedding(found, embeddings), text))
    return _SPECIAL.sub(r"\\\g<0>", text)


def _embedding(found: re.Match[str], embeddings: Collection[str]) -> str:
    for name in (found[1], _ENDING.sub("", found[1])):
        if name in embeddings:
            return name
    raise UnknownEmbedding(found[1])
