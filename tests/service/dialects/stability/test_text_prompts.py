"""Weighted prompts in our prompt syntax."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.request.prompts import MAX_WEIGHT, parse_prompt
from service.dialects.stability.text_prompts import TextPrompt, prompt_fields

texts = st.text(st.sampled_from("ab :1.5,()[]\\"), min_size=1, max_size=12)
weights = st.integers(1, 1000).map(lambda hundredths: hundredths / 100)


@pytest.mark.parametrize(
    ("prompts", "prompt", "negative"),
    [
        ([("a cat", 1)], "a cat", ""),
        ([("a cat", 0.5), ("a dog", 1.25)], "(a cat:0.5), (a dog:1.25)", ""),
        ([("a cat", 1), ("blurry", -1), ("dark", -0.75)], "a cat", "blurry, (dark:0.75)"),
        ([("a cat", 0), ("", 1), (" ", -1), ("x", 1e-9)], "", ""),
        ([("a (red:1.3) cat", 2)], "(a (red:1.3) cat:2)", ""),
        ([("a :) smile", 2), ("b", 1)], r"(a :\) smile:2), b", ""),
        ([("an (open bracket", 1), ("b", 1)], r"an \(open bracket, b", ""),
        ([("16:9", 0.5)], "(16:9:0.5)", ""),
    ],
)
def test_prompts(prompts: list[tuple[str, float]], prompt: str, negative: str) -> None:
    found = prompt_fields(TextPrompt(text=text, weight=weight) for text, weight in prompts)
    assert found == {"prompt": prompt, "negative_prompt": negative}


def letters(*prompts: tuple[str, float]) -> list[tuple[str, float]]:
    """Return the letters of prompts and the weight of each."""
    found = prompt_fields(TextPrompt(text=text, weight=weight) for text, weight in prompts)
    [section] = parse_prompt(str(found["prompt"])).sections
    return [(letter, piece.weight) for piece in section for letter in piece.text if letter in "ab"]


@given(texts, weights, texts, weights)
def test_no_text_changes_the_weight_of_another(
    one: str, first: float, other: str, second: float
) -> None:
    both = letters((one, first), (other, second))
    assert both == letters((one, first)) + letters((other, second))


@given(texts, weights)
def test_all_of_a_text_has_its_weight(text: str, weight: float) -> None:
    alone = letters((text, 1))
    assert [letter for letter, _ in alone] == [letter for letter in text if letter in "ab"]
    expected = [min(max(own * weight, -MAX_WEIGHT), MAX_WEIGHT) for _, own in alone]
    assert [own for _, own in letters((text, weight))] == pytest.approx(expected, abs=0.002)
