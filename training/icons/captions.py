"""Selection, captions and sampling weights of icons.

Pure functions of names, labels and colours: no files, no pixels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

from training.icons.colours import COLOURS
from training.icons.everyday import EVERYDAY, FAVOURITES, SYNONYMS

_SKIN_TONE = re.compile(r"-(?:medium-light|medium-dark|light|medium|dark)-skin-tone|-tone\d")
_TONE_SUFFIX = re.compile(r"-(medium-light|medium-dark|light|medium|dark)$")
# Sets name a national flag `flag-france`, `flag-for-france`, `flag-for-flag-france`, `franceflag`.
_FLAG_FOR = re.compile(r"^flag-for-(flag-)?")
_FLAG_SUFFIX = re.compile(r"^([a-z]+)flag$")
_NATIONAL_FLAG = "flag: "

# Emojibase groups with many near-identical images (professions, buttons), which would otherwise be
# most of the training: people, components, symbols and flags.
_RARE_GROUPS = {1, 2, 8, 9}

# Each name has images in seven styles. The plainest styles have the largest weights, so that the
# name alone has one clear meaning; a style word still selects the others.
_STYLE_WEIGHTS = {
    "twemoji": 8.0,
    "noto": 2.0,
    "flat": 1.0,
    "fluent": 0.5,
    "emojione": 0.5,
    "blob": 0.25,
    "firefox": 0.25,
}


# Words that people add to a name and that change no icon; each icon gets some of them.
_ADJECTIVES = (
    *("big", "small", "little", "tiny", "large", "cute", "nice", "lovely", "beautiful", "pretty"),
    *("old", "new", "fresh", "shiny", "simple", "classic", "plain", "modern", "colorful", "tall"),
)
_ADJECTIVES_OF_AN_ICON = 3

# Everyday names are wanted most, but the others need enough images to be learned at all.
_FAVOURITE, _EVERYDAY, _RARE = 12.0, 8.0, 0.7


@dataclass(frozen=True)
class Label:
    """Label, tags and group of an emoji in Emojibase."""

    label: str
    tags: tuple[str, ...]
    group: int | None


def slug(text: str) -> str:
    """Return a label in Iconify's spelling: `"smiling face with hearts"` -> `smiling-face-…`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("’", "")).strip("-")


@dataclass(frozen=True)
class Labels:
    """Emojibase labels by slug, and the known words that split names without separators."""

    by_slug: Mapping[str, Label]
    words: Collection[str]

    @classmethod
    def from_emojibase(cls, emojis: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Self:
        """Read the labels of `en/data.json`; `names` are further text with words of icon names."""
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
        """Return the label for a name written as words, or None if Emojibase has none."""
        return self.by_slug.get(slug(words))


def is_kept(name: str, names_of_set: Collection[str]) -> bool:
    """Return False for skin-tone variants, which repeat an icon in up to 25 colours.

    Fluent marks tones by a bare suffix, with which `police-car-light` also ends: a name is a
    variant only if `names_of_set` has its medium-dark form.
    """
    if _SKIN_TONE.search(name):
        return False
    bare = _TONE_SUFFIX.sub("", name)
    return bare == name or f"{bare}-medium-dark" not in names_of_set


def split_words(text: str, words: Collection[str]) -> str:
    """Split text into the fewest known words: `"crescentmoon"` -> `"crescent moon"`.

    Text that known words cannot spell is returned unchanged.
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
    """Return an icon's name in words, in Emojibase's spelling if it has the label."""
    name = _FLAG_SUFFIX.sub(r"\1-flag", _FLAG_FOR.sub("flag-", name))
    words = name.replace("-", " ")
    if " " not in words and words not in labels.words:
        words = split_words(words, labels.words)
    label = labels.find(words)
    return (label.label if label else words).lower()


def captions(plain: str, style: str, labels: Labels, colour: str | None = None) -> list[str]:
    """Return several captions for one image; the plain name is first.

    All sets share the plain name; the style word distinguishes them. colour: of the whole icon.
    """
    label = labels.find(plain)
    names = [plain, *SYNONYMS.get(plain, ())]
    if plain.startswith(_NATIONAL_FLAG):
        country = plain.removeprefix(_NATIONAL_FLAG)
        names += [f"flag of {country}", f"{country} flag"]
    written = [*names, with_article(names[-1]), f"{names[-1]}, {style} style"]
    written += [f"{word} {names[-1]}" for word in adjectives(plain + style)]
    if colour and not COLOURS & set(plain.split()):
        written += [f"{colour} {names[-1]}", with_article(f"{colour} {names[-1]}")]
    if label and label.tags:
        written.append(f"{plain}, {', '.join(label.tags[:4])}")
    return list(dict.fromkeys(written))


def coloured_captions(plain: str, colour: str) -> list[str]:
    """Return captions of an icon in another colour, the plainest first."""
    names = [f"{colour} {name}" for name in (plain, *SYNONYMS.get(plain, ()))]
    return [*names, *(with_article(name) for name in names)]


def with_article(name: str) -> str:
    """Return a name with "a" or "an" before it."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def adjectives(key: str) -> list[str]:
    """Return some adjectives, always the same for the same key."""
    first = crc32(key.encode())
    return [_ADJECTIVES[(first + 7 * i) % len(_ADJECTIVES)] for i in range(_ADJECTIVES_OF_AN_ICON)]


def weight(plain: str, style: str, labels: Labels) -> float:
    """Return the sampling weight of an image, relative to an ordinary one."""
    by_style = _STYLE_WEIGHTS[style]
    if plain in EVERYDAY:
        return by_style * (_FAVOURITE if plain in FAVOURITES else _EVERYDAY)
    label = labels.find(plain)
    return by_style * (_RARE if label is None or label.group in _RARE_GROUPS else 1.0)
