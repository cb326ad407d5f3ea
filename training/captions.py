"""Which icons are kept, what they are called, and how often training should see them.

Pure functions over names and labels: no files, no pixels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from training.everyday import EVERYDAY, FAVOURITES, SYNONYMS

_SKIN_TONE = re.compile(r"skin-tone|-tone\d")
_TONE_SUFFIX = re.compile(r"-(medium-light|medium-dark|light|medium|dark)$")
_FLAG_OR_KEYCAP = re.compile(
    r"^flag-|flag$|^keycap|^regional-?indicator|^\d+$|^[a-z]$|^hash$|^(number-sign|asterisk)$"
)

# Emojibase groups whose many near-identical drawings (professions, buttons) would otherwise
# take most of the training: component, symbols and flags, and people.
_SELDOM_GROUPS = {1, 2, 8, 9}

# Seven ways to draw one thing are many for one name. The plainest drawings count most, so that
# the name alone means something definite; the style words still name the others.
_STYLE_WEIGHTS = {
    "twemoji": 8.0,
    "noto": 2.0,
    "flat": 1.0,
    "fluent": 0.5,
    "emojione": 0.5,
    "blob": 0.25,
    "firefox": 0.25,
}


@dataclass(frozen=True)
class Label:
    """What Emojibase says of one emoji."""

    label: str
    tags: tuple[str, ...]
    group: int | None


def slug(text: str) -> str:
    """The Iconify spelling of a label: `"smiling face with heart-eyes"` -> `smiling-face-…`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("’", "")).strip("-")


@dataclass(frozen=True)
class Labels:
    """Emojibase labels by slug, and the words from which run-together names are told apart."""

    by_slug: Mapping[str, Label]
    words: Collection[str]

    @classmethod
    def from_emojibase(cls, emojis: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Self:
        """From `en/data.json` and further text whose words may occur in names."""
        by_slug = {
            slug(emoji["label"]): Label(
                emoji["label"], tuple(emoji.get("tags", ())), emoji.get("group")
            )
            for emoji in emojis
        }
        texts = [*by_slug, *(slug(name) for name in names)]
        words = {word for text in texts for word in text.split("-") if len(word) > 1} | {"a"}
        return cls(by_slug, words)

    def find(self, words: str) -> Label | None:
        """The label of a name written as words, if Emojibase knows it."""
        return self.by_slug.get(slug(words))


def is_kept(name: str, names_of_set: Collection[str]) -> bool:
    """False for skin-tone variants, flags and keycaps.

    Fluent marks tones by a bare suffix, which `police-car-light` also ends in: only a name with
    all its tone siblings is a variant.
    """
    if _SKIN_TONE.search(name) or _FLAG_OR_KEYCAP.search(name):
        return False
    bare = _TONE_SUFFIX.sub("", name)
    return bare == name or f"{bare}-medium-dark" not in names_of_set


def split_words(text: str, words: Collection[str]) -> str:
    """Separate run-together words, fewest first: `"crescentmoon"` -> `"crescent moon"`.

    What no known words spell is returned as it is.
    """
    best: list[list[str] | None] = [[]] + [None] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(end):
            before, known = best[start], best[end]
            if before is None or text[start:end] not in words:
                continue
            if known is None or len(before) + 1 < len(known):
                best[end] = [*before, text[start:end]]
    return " ".join(best[-1] or [text])


def plain_name(name: str, labels: Labels) -> str:
    """An icon's name in words, in Emojibase's spelling where it is known."""
    words = name.replace("-", " ")
    if " " not in words and words not in labels.words:
        words = split_words(words, labels.words)
    label = labels.find(words)
    return (label.label if label else words).lower()


def captions(plain: str, style: str, labels: Labels) -> list[str]:
    """Several ways to ask for one drawing; the plain name comes first.

    The plain name is shared by all sets, the style word tells them apart.
    """
    label = labels.find(plain)
    names = [plain, *SYNONYMS.get(plain, ())]
    article = "an" if names[-1][0] in "aeiou" else "a"
    written = [*names, f"{article} {names[-1]}", f"{names[-1]}, {style} style"]
    if label and label.tags:
        written.append(f"{plain}, {', '.join(label.tags[:4])}")
    return list(dict.fromkeys(written))


def weight(plain: str, style: str, labels: Labels) -> float:
    """How many times as often as an ordinary drawing training should see this one."""
    by_style = _STYLE_WEIGHTS[style]
    if plain in EVERYDAY:
        return by_style * (160.0 if plain in FAVOURITES else 40.0)
    label = labels.find(plain)
    return by_style * (0.25 if label is None or label.group in _SELDOM_GROUPS else 1.0)
