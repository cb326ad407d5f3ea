"""A model's tokenizer as its worker publishes it: enough to count the tokens of a text."""

import html
from typing import Annotated

import ftfy
from pydantic import Field

from protocol.record import Int, Record, Text

__all__ = ["PublishedTokenizer", "clean"]


class PublishedTokenizer(Record):
    """backend: the serialised form of the `tokenizers` package, which gets text that went through
    `clean` first where `cleaned` says so. learned: words that stand for several tokens, as the id
    that the backend gives them -> how many. others: the tokenizers of further text encoders; a
    text is as long as it is to the one that finds most in it.
    """

    backend: Text
    cleaned: bool = False
    learned: dict[int, Annotated[Int, Field(ge=1)]] = Field(default_factory=dict)
    others: tuple["PublishedTokenizer", ...] = ()


def clean(text: str) -> str:
    """Text as CLIP was trained to read it: mended, unescaped, one space between words, lower-case.

    The worker's library of models, which shares no code with this one, does the same.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()
