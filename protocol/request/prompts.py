r"""Prompt syntax: weights, breaks and the names of LoRAs.

The syntax is that of AUTOMATIC1111's web interface (its wiki, "Attention/emphasis"):

    (word) ((word))    1.1 times as strong for each bracket; (word:1.3) 1.3 times
    [word]             1.1 times weaker for each bracket
    BREAK              what follows begins a new row of tokens
    <lora:name:0.8>    taken out of the text: names a LoRA and its weight, 1 if left out
    <lora:name:0.8:1>  its weights in the text encoders and in the UNet
    \( \) \[ \] \< \\  the character itself

After the weights, as in AUTOMATIC1111's web interface and its extension LoRA Block Weight:
te=, unet=, lbw= (a preset, or a list of numbers), start=, stop=, step=start-stop.

Any text parses: an opening bracket without its partner extends to the end, and a closing one
is text. Vocabularies and networks are not needed here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from protocol.request.bounds import exact
from protocol.request.fields import normal_form
from protocol.request.loras.lora_use import BLOCK_LISTS, BLOCK_WEIGHTS_BOUND, PRESETS, LoraUse

__all__ = ["LoraMention", "ParsedPrompt", "Piece", "PromptSyntax"]
__all__ += ["LORA_FORM", "parse_prompt", "read_mention", "without_loras", "write_mention"]

STRONGER, WEAKER = 1.1, 1 / 1.1  # the factor of a bracket
MAX_WEIGHT = 10.0  # of either sign; an embedding with a larger weight is useless
MAX_NESTING = 32  # deeper brackets change nothing: 1.1 ** 25 exceeds MAX_WEIGHT
DECIMALS = 4  # of a weight, so that 1.1 * (1 / 1.1) equals 1

# Every quantifier is possessive or cannot overlap with the next part: time is linear in the text.
_NUMBER = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_TOKENS = re.compile(
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
_WHOLE_NUMBER = re.compile(_NUMBER)
_WEIGHTS = ("te", "unet")
_PARTS = {*_WEIGHTS, "lbw", "start", "stop", "step"}  # of a LoRA, by name
LORA_FORM = (
    "of the form <lora:name:weight> or <lora:name:text encoder weight:unet weight>, with lbw= (one "
    f"of {', '.join(PRESETS)}, or {BLOCK_WEIGHTS_BOUND}), start=, stop= and step= after it"
)


class PromptSyntax(StrEnum):
    """The syntax of a prompt: weights and LoRAs as above, or plain text."""

    WEIGHTS = "weights"
    PLAIN = "plain"


class Piece(NamedTuple):
    """Text and its weight: 1 is neutral, at most `MAX_WEIGHT` of either sign."""

    text: str
    weight: float


class LoraMention(NamedTuple):
    """A LoRA in a prompt and its weight, within `MAX_WEIGHT`; its existence is not checked.

    start and stop: a share of the steps below 1, or the number of a step, from 1. problem: the
    first part that is not understood.
    """

    name: str
    weight: float
    text_encoder_weight: float | None = None
    block_weights: tuple[float, ...] | None = None
    start: float = 0.0
    stop: float | None = None
    problem: str = ""

    def use(self, steps: int) -> LoraUse:
        """Return the LoRA as a request of so many steps has it; weights are not bounded."""
        return LoraUse.model_construct(
            name=normal_form(self.name),
            weight=self.weight,
            text_encoder_weight=self.text_encoder_weight,
            block_weights=self.block_weights,
            start=_share(self.start, steps),
            end=1.0 if self.stop is None else _share(self.stop, steps),
        )


@dataclass(frozen=True)
class ParsedPrompt:
    """A parsed prompt. Each section begins a new row of tokens. Neighbouring pieces of a section
    differ in weight, and a section without text has no pieces.
    """

    sections: tuple[tuple[Piece, ...], ...]
    loras: tuple[LoraMention, ...] = ()

    def tokens(self, count: Callable[[str], int], row: int) -> int:
        """Return the length in tokens, as `count` finds them, with each row that a break ends
        counted as full; a row holds `row` tokens."""
        *before, last = (sum(count(text) for text, _ in pieces) for pieces in self.sections)
        return row * sum(max(1, -(-tokens // row)) for tokens in before) + last


def parse_prompt(text: str, syntax: PromptSyntax = PromptSyntax.WEIGHTS) -> ParsedPrompt:
    """Return `text` parsed. Never raises."""
    if syntax is PromptSyntax.PLAIN:
        return ParsedPrompt(((Piece(text, 1.0),) if text else (),))
    parser = _Parser()
    for token in _TOKENS.finditer(text):
        parser.take(token)
    return parser.result()


def without_loras(text: str) -> str:
    """Return `text` without the LoRAs that it names; everything else is unchanged."""
    return "".join(token[0] for token in _TOKENS.finditer(text) if token.lastgroup != "lora")


class _Parser:
    """The state of a parse: the pieces so far, and the starts of the brackets still open."""

    def __init__(self) -> None:
        self._texts: list[str | None] = []  # None: a new section
        self._weights: list[float] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}
        self._loras: list[LoraMention] = []

    def take(self, token: re.Match[str]) -> None:
        match token.lastgroup, token[token.lastgroup or 0]:
            case "lora", text:
                self._loras.append(read_mention(text))
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
                self._add_with_breaks(token[0])

    def result(self) -> ParsedPrompt:
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
            sections.pop()  # a break without text after it
        return ParsedPrompt(tuple(map(tuple, sections)), tuple(self._loras))

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
        if len(self._open[bracket]) < MAX_NESTING:
            for i in range(start, len(self._weights)):
                self._weights[i] *= factor


def _bounded(weight: float) -> float:
    return round(_within_bounds(weight), DECIMALS)


def _number(digits: str) -> float:
    """Return the number, bounded: enough digits make an infinity, and that times 0 is NaN."""
    return _bounded(float(digits))


def read_mention(text: str) -> LoraMention:
    """Return the LoRA of `name:weight:…`, which is what a prompt has after `<lora:`."""
    name, *parts = text.split(":")
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    weights = [part for part in parts if "=" not in part]
    positional = dict(zip(_WEIGHTS, weights, strict=False))
    if len(weights) > len(positional) or named.keys() - _PARTS:
        unread = [*weights[2:], *(f"{key}={named[key]}" for key in named if key not in _PARTS)]
        return LoraMention(name, 1.0, problem=unread[0])
    given = positional | named
    if "step" in given:
        given["start"], _, given["stop"] = given.pop("step").partition("-")
    numbers: dict[str, float] = {}
    for key in given.keys() - {"lbw"}:
        if not _WHOLE_NUMBER.fullmatch(given[key].strip()):
            return LoraMention(name, 1.0, problem=f"{key}={given[key]}" if named else given[key])
        numbers[key] = _within_bounds(float(given[key])) if key in _WEIGHTS else float(given[key])
    blocks = _blocks(given["lbw"]) if "lbw" in given else None
    if blocks is None and "lbw" in given:
        return LoraMention(name, 1.0, problem=f"lbw={given['lbw']}")
    in_text = numbers.get("te", 1.0)
    unet = numbers.get("unet", in_text)
    other = None if in_text == unet else in_text
    return LoraMention(name, unet, other, blocks, numbers.get("start", 0.0), numbers.get("stop"))


def write_mention(use: LoraUse) -> str:
    """Return what `read_mention` reads as this LoRA."""
    parts = [exact(use.weight)]
    if use.text_encoder_weight is not None:
        parts.insert(0, exact(use.text_encoder_weight))
    if use.block_factors is not None:
        parts.append("lbw=" + ",".join(map(exact, use.block_factors)))
    if use.start:
        parts.append(f"start={exact(use.start)}")
    if use.end < 1:
        parts.append(f"stop={exact(use.end)}")
    return ":".join((use.name, *parts))


def _blocks(text: str) -> tuple[float, ...] | None:
    """Return the numbers of a preset or list; None for any other text."""
    if text in PRESETS:
        return PRESETS[text]
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) not in BLOCK_LISTS or not all(map(_WHOLE_NUMBER.fullmatch, numbers)):
        return None
    return tuple(_within_bounds(float(number)) for number in numbers)


def _within_bounds(weight: float) -> float:
    """Return a weight of at most `MAX_WEIGHT`: enough digits make an infinity."""
    return min(max(weight, -MAX_WEIGHT), MAX_WEIGHT)


def _share(value: float, steps: int) -> float:
    """Return a share of the steps; from 1 on, `value` is the number of a step."""
    return max(0.0, value) if value < 1 else min(1.0, (value - 1) / steps)
