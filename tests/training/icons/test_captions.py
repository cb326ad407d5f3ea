"""Selection, captions and sampling weights of icons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.icons.captions import (
    Labels,
    captions,
    is_kept,
    plain_name,
    slug,
    split_words,
    weight,
)
from training.icons.everyday import EVERYDAY, FAVOURITES, SYNONYMS
from training.icons.sets import ICON_SETS

EMOJIS = [
    {"label": "red heart", "tags": ["heart", "love"], "group": 0},
    {"label": "automobile", "tags": ["car", "vehicle"], "group": 5},
    {"label": "smiling face with heart-eyes", "tags": ["eye", "face"], "group": 0},
    {"label": "woman’s hat", "tags": ["hat"], "group": 7},
    {"label": "input symbols", "tags": ["symbols"], "group": 8},
    {"label": "crescent moon", "tags": [], "group": 5},
    {"label": "flag: France", "tags": ["FR"], "group": 9},
]
LABELS = Labels.from_emojibase(EMOJIS, ["SLICE OF PIZZA", "beach-umbrella"])


@pytest.mark.parametrize(
    "name",
    [
        "waving-hand-medium-skin-tone",
        "couple-with-heart-woman-man-dark-skin-tone-light-skin-tone",
        "man-climbing-tone1",
        "technologist-dark",
    ],
)
def test_skin_tone_variants_are_left_out(name: str) -> None:
    siblings = {"technologist", "technologist-dark", "technologist-medium-dark"}
    assert not is_kept(name, siblings)


@pytest.mark.parametrize(
    "name",
    [
        *("red-heart", "police-car-light", "flashlight", "e-mail"),
        *("chequered-flag", "flag-in-hole", "closed-mailbox-with-raised-flag", "pirate-flag"),
        *("flag-france", "flag-for-malta", "flag-for-flag-spain", "franceflag"),
        *("keycap-1", "regionalindicatorb", "0", "hash", "asterisk"),
    ],
)
def test_all_other_icons_are_kept(name: str) -> None:
    assert is_kept(name, {"police-car", "police-car-light", name})


@pytest.mark.parametrize("name", ["flag-france", "flag-for-france", "flag-for-flag-france"])
def test_a_national_flag_has_one_name_in_all_sets(name: str) -> None:
    plain = plain_name(name, LABELS)
    assert plain == "flag: france"
    assert {"flag of france", "france flag"} <= set(captions(plain, "noto", LABELS))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("red-heart", "red heart"),
        ("redheart", "red heart"),
        ("sliceofpizza", "slice of pizza"),
        ("crescentmoon", "crescent moon"),
        ("smiling-face-with-heart-eyes", "smiling face with heart-eyes"),
        ("womans-hat", "woman’s hat"),
        ("qqq", "qqq"),
        ("japanflag", "japan flag"),
        ("flag-in-hole", "flag in hole"),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert plain_name(name, LABELS) == words


@given(st.lists(st.sampled_from(sorted(LABELS.words)), min_size=1, max_size=5))
def test_splitting_only_adds_spaces_between_known_words(words: list[str]) -> None:
    split = split_words("".join(words), LABELS.words)
    assert split.replace(" ", "") == "".join(words)
    assert set(split.split()) <= set(LABELS.words)
    assert len(split.split()) <= len(words)


def test_plain_name_is_first_and_everyday_names_follow() -> None:
    written = captions("automobile", "noto", LABELS)
    assert written[:2] == ["automobile", "car"]
    assert "a car" in written
    assert "car, noto style" in written
    assert "automobile, car, vehicle" in written


def test_everyday_emoji_have_the_largest_weights_and_buttons_the_smallest() -> None:
    everyday, plain, button = (
        weight(name, "fluent", LABELS) for name in ("red heart", "woman’s hat", "input symbols")
    )
    assert everyday > plain > button > 0
    assert weight("red heart", "noto", LABELS) > everyday
    assert weight("unknown name", "fluent", LABELS) == button


def test_every_set_has_a_weight() -> None:
    assert all(weight("red heart", style, LABELS) > 0 for style in ICON_SETS.values())


def test_everyday_names_are_normalised() -> None:
    assert {"red heart", "pizza", "crescent moon"} <= FAVOURITES <= EVERYDAY
    assert all(slug(name) and name == name.strip().lower() for name in EVERYDAY)
    assert all(names for names in SYNONYMS.values())
