r"""What people write in prompts beside words: weights, breaks and the names of LoRAs.

The syntax is that of AUTOMATIC1111's web interface (its wiki, "Attention/emphasis"):

    (word) ((word))    1.1 times as strong for each bracket; (word:1.3) 1.3 times
    [word]             1.1 times weaker for each bracket
    BREAK              what follows begins a new row of tokens
    <lora:name:0.8>    taken out of the text: names a LoRA and its weight, 1 if left out
    \( \) \[ \] \< \\  the character itself

Any text parses: a bracket without its partner reaches to the end, or is text where it closes
nothing. Nothing here knows a vocabulary or a network.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["LoraMention", "Piece", "Prompt", "PromptSyntax", "parse", "without_loras"]

STRONGER, WEAKER = 1.1, 1 / 1.1  # what a bracket does
MOST_WEIGHT = 10.0  # either way; beyond it an embedding says nothing any more
MOST_BRACKETS = 32  # brackets nested deeper change nothing: 1.1 ** 25 passes MOST_WEIGHT
DECIMALS = 4  # of a weight, so that what is equal on paper is equal here: 1.1 / 1.1

# Every quantifier is possessive or cannot overlap with what follows: time is linear in the text.
_NUMBER = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_SIGNS = re.compile(
    rf"""
      \\(?P<escaped>[\\()\[\]<])
    | <lora:(?P<lora>[^<>]+)>
    | :\s*+(?P<weight>{_NUMBER})\s*+\)
    | (?P<bracket>[()\[\]])
    | (?P<text>[^\\()\[\]:<]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BREAK = re.compile(r"\bBREAK\b")
_WEIGHTED_NAME = re.compile(rf"(?P<name>.+):(?P<weight>{_NUMBER})", re.DOTALL)


class PromptSyntax(StrEnum):
    """How a prompt is read: with the signs above, or as nothing but words."""

    WEIGHTS = "weights"
    PLAIN = "plain"


class Piece(NamedTuple):
    """Text and how strongly it is meant: 1 is as it stands, within `MOST_WEIGHT` either way."""

    text: str
    weight: float


class LoraMention(NamedTuple):
    """A LoRA as a prompt names it, within `MOST_WEIGHT`; nobody has checked that there is one."""

    name: str
    weight: float


@dataclass(frozen=True)
class Prompt:
    """What a prompt says. Sections begin rows of tokens of their own; neighbouring pieces of a
    section differ in weight, and a section without text has none.
    """

    sections: tuple[tuple[Piece, ...], ...]
    loras: tuple[LoraMention, ...] = ()

    def tokens(self, count: Callable[[str], int], row: int) -> int:
        """How long it is: the tokens that `count` finds, and every row that a break leaves filled
        up; a row holds `row` tokens."""
        *before, last = (sum(count(text) for text, _ in pieces) for pieces in self.sections)
        return row * sum(max(1, -(-tokens // row)) for tokens in before) + last


def parse(text: str, syntax: PromptSyntax = PromptSyntax.WEIGHTS) -> Prompt:
    """`text` as it is meant. Never raises."""
    if syntax is PromptSyntax.PLAIN:
        return Prompt(((Piece(text, 1.0),) if text else (),))
    reading = _Reading()
    for sign in _SIGNS.finditer(text):
        reading.take(sign)
    return reading.result()


def without_loras(text: str) -> str:
    """`text` without the LoRAs that it mentions; everything else is left as it stands."""
    return "".join(sign[0] for sign in _SIGNS.finditer(text) if sign.lastgroup != "lora")


class _Reading:
    """The state of a parse: pieces so far, and where the brackets still open began."""

    def __init__(self) -> None:
        self._texts: list[str | None] = []  # None: a new section
        self._weights: list[float] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}
        self._loras: list[LoraMention] = []

    def take(self, sign: re.Match[str]) -> None:
        match sign.lastgroup, sign[sign.lastgroup or 0]:
            case "lora", said:
                self._loras.append(_mention(said))
            case "weight", number if self._open["("]:
                self._close("(", _number(number))
            case "bracket", "(" | "[" as bracket:
                self._open[bracket].append(len(self._texts))
            case "bracket", ")" if self._open["("]:
                self._close("(", STRONGER)
            case "bracket", "]" if self._open["["]:
                self._close("[", WEAKER)
            case "escaped", character:
                self._add(character)
            case _:
                self._add_with_breaks(sign[0])

    def result(self) -> Prompt:
        for bracket, factor in (("(", STRONGER), ("[", WEAKER)):
            while self._open[bracket]:
                self._close(bracket, factor)
        sections: list[list[Piece]] = [[]]
        for text, weight in zip(self._texts, map(_bounded, self._weights), strict=True):
            if text is None:
                sections.append([])
            elif sections[-1] and sections[-1][-1].weight == weight:
                sections[-1][-1] = Piece(sections[-1][-1].text + text, weight)
            else:
                sections[-1].append(Piece(text, weight))
        while len(sections) > 1 and not any(piece.text.strip() for piece in sections[-1]):
            sections.pop()  # a break after which nothing is said
        return Prompt(tuple(map(tuple, sections)), tuple(self._loras))

    def _add(self, text: str | None) -> None:
        self._texts.append(text)
        self._weights.append(1.0)

    def _add_with_breaks(self, text: str) -> None:
        for i, part in enumerate(_BREAK.split(text)):
            if i:
                self._add(None)
            if part:
                self._add(part)

    def _close(self, bracket: str, factor: float) -> None:
        start = self._open[bracket].pop()
        if len(self._open[bracket]) < MOST_BRACKETS:
            for i in range(start, len(self._weights)):
                self._weights[i] *= factor


def _bounded(weight: float) -> float:
    return round(min(max(weight, -MOST_WEIGHT), MOST_WEIGHT), DECIMALS)


def _number(digits: str) -> float:
    """Bounded at once: enough digits make an infinity, and that times 0 is no number."""
    return _bounded(float(digits))


def _mention(said: str) -> LoraMention:
    if weighted := _WEIGHTED_NAME.fullmatch(said):
        return LoraMention(weighted["name"], _number(weighted["weight"]))
    return LoraMention(said, 1.0)
