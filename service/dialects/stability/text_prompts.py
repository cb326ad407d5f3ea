"""Weighted prompts, in our prompt syntax: (text:1.3); a negative weight is a negative prompt."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from protocol.record import Float, Text
from protocol.request.client_record import ClientRecord
from protocol.request.prompts import DECIMALS, MAX_WEIGHT, parse_prompt
from service.schemas.body_parser import Fields

MAX_PROMPTS = 20
MAX_TEXT = 2000  # characters
NEUTRAL = "\0"  # no part of any syntax
SYNTAX = re.compile(r"[\\()\[\]<]")


class TextPrompt(ClientRecord):
    """A prompt and its weight; below 0 it says what the image should not show."""

    text: Annotated[Text, Field(max_length=MAX_TEXT, examples=["a slice of pizza"])]
    weight: Annotated[Float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)] = 1.0


def prompt_fields(prompts: Iterable[TextPrompt]) -> Fields:
    """Return our prompt and negative prompt. Blank texts, and those of weight 0, are left out."""
    told = [(one.text, round(one.weight, DECIMALS)) for one in prompts if one.text.strip()]
    wanted = [_weighted(text, weight) for text, weight in told if weight > 0]
    unwanted = [_weighted(text, -weight) for text, weight in told if weight < 0]
    return {"prompt": ", ".join(wanted), "negative_prompt": ", ".join(unwanted)}


def _weighted(text: str, weight: float) -> str:
    """Return a text with a weight of its own, which neither its brackets nor others change."""
    closed = text if _is_closed(text) else SYNTAX.sub(r"\\\g<0>", text)
    return closed if weight == 1 else f"({closed}:{weight:g})"


def _is_closed(text: str) -> bool:
    """Return True if every bracket has its partner in the text itself."""
    after = parse_prompt(f"{text}{NEUTRAL}").sections[-1][-1]
    return after.weight == 1 and parse_prompt(f"({text}:1)") == parse_prompt(text)
