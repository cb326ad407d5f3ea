"""The LoRAs of a request, from the field and from the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.prompts import parse_prompt, without_loras
from protocol.request.request import GenerationRequest, LoraUse, Task
from protocol.request.resolve import resolve
from tests.protocol.records import CARD

NAMES = ("pencil", "oil paint v1.5", "Ärger", *(f"more{i}" for i in range(30)))
WITH_LORAS = CARD.model_copy(update={"loras": NAMES})


def resolved(prompt: str = "a cat", card: Any = WITH_LORAS, **fields: Any) -> GenerationRequest:
    params = GenerationParams.model_validate_json(json.dumps({"prompt": prompt, **fields}))
    return resolve(Task.TXT2IMG, params, card, lambda text: len(text.split()))


def uses(**weights: float) -> tuple[LoraUse, ...]:
    return tuple(LoraUse(name=name, weight=weight) for name, weight in weights.items())


def test_field_and_prompt_give_the_same_loras() -> None:
    [in_field] = resolved(loras=[{"name": "oil paint v1.5", "weight": -0.8}]).loras
    request = resolved("a <lora:oil paint v1.5:-0.8>cat")
    assert request.loras == (in_field,)
    assert in_field == LoraUse(name="oil paint v1.5", weight=-0.8)
    assert request.prompt == "a cat"
    assert resolved("<lora:Ärger>x").loras == uses(Ärger=1.0)
    assert resolved().loras == ()


def test_weights_of_repeated_loras_are_added() -> None:
    request = resolved("<lora:pencil:0.5> x <lora:pencil>", loras=[{"name": "pencil"}])
    assert request.loras == uses(pencil=2.5)


def test_resolved_request_resolves_to_itself() -> None:
    """As when the request stored in an image is sent again."""
    request = resolved("(a:1.2) <lora:pencil:0.5>\\<lora:x:1>", loras=[{"name": "more7"}])
    again = resolved(request.prompt, loras=[use.model_dump() for use in request.loras])
    assert again.loras == request.loras
    assert again.prompt == request.prompt


@pytest.mark.parametrize(
    ("field", "problem", "fields"),
    [
        ("loras", "unknown-lora", {"loras": [{"name": "Pencil"}]}),
        ("loras", "unknown-lora", {"loras": [{"name": "../pencil"}]}),
        ("prompt", "unknown-lora", {"prompt": "<lora:water:1>"}),
        ("prompt", "unknown-lora", {"prompt": "<lora:pencil:1:0.5>"}),
        ("prompt", "lora-weight", {"prompt": "<lora:pencil:4.5>"}),
        ("prompt", "lora-weight", {"prompt": "<lora:pencil:-9>"}),
        ("loras", "lora-weight", {"loras": [{"name": "pencil", "weight": 3}] * 2}),
        ("loras", "too-many", {"prompt": "".join(f"<lora:more{i}>" for i in range(9))}),
        ("negative_prompt", "lora-in-negative-prompt", {"negative_prompt": "<lora:pencil:1>"}),
    ],
)
def test_invalid_loras_are_refused(field: str, problem: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(**fields)
    assert (no.value.field, no.value.problem) == (field, problem)


def test_error_lists_available_loras() -> None:
    with pytest.raises(InvalidRequest, match=r"one of pencil, oil paint v1\.5, .* and 13 more$"):
        resolved("<lora:water>")
    with pytest.raises(InvalidRequest, match="there are no LoRAs for"):
        resolved("<lora:pencil>", CARD)


@given(st.text("ab<lora:>1.\\( ", max_size=40))
def test_only_loras_are_removed_from_a_prompt(text: str) -> None:
    left = without_loras(text)
    if not parse_prompt(text).loras:
        assert left == text
    assert parse_prompt(text).sections == parse_prompt(left).sections or "<lora:" in left
