"""Prompts as CLIP was trained to read them: mended, unescaped, one space between words, lower-case.

The steps are those of the repository openai/CLIP (simple_tokenizer.py), which open_clip keeps.
"""

from __future__ import annotations

import html

import ftfy


def clean(text: str) -> str:
    """ftfy undoes wrong decodings, curly quotes, ligatures and full-width letters."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()
