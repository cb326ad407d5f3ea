"""Prompt cleaning as in CLIP's training: repaired, unescaped, single spaces, lower-case.

The steps are those of the repository openai/CLIP (simple_tokenizer.py), which open_clip keeps.
"""

from __future__ import annotations

import html

import ftfy


def clean(text: str) -> str:
    """Return the cleaned text.

    ftfy repairs wrong decodings, curly quotes, ligatures and full-width letters.
    """
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(repaired.split()).lower()
