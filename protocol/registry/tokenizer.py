"""The published tokenizer of a model, to count the tokens of a text."""

import html
from typing import Annotated

import ftfy
from pydantic import Field

from protocol.record import Int, Record, Text

__all__ = ["PublishedTokenizer", "clean"]


class PublishedTokenizer(Record):
    """A tokenizer in JSON.

    backend: the serialised form of the `tokenizers` package; if `cleaned`, text goes through
    `clean` first. learned: the words of textual inversion embeddings, as the id that the backend
    gives them -> their number of tokens. others: the tokenizers of further text encoders; the
    length of a text is the largest of all.
    """

    backend: Text
    cleaned: bool = False
    learned: dict[int, Annotated[Int, Field(ge=1)]] = Field(default_factory=dict)
    others: tuple["PublishedTokenizer", ...] = ()


def clean(text: str) -> str:
    """Return text as in CLIP's training: repaired, unescaped, one space between words, lower-case.

    The package `models`, which shares no code with this one, does the same.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()
