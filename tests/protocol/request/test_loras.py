"""The LoRAs of a request, from the field and from the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.loras.lora_use import lora_windows, merged_sets
from protocol.request.model_card import LoraInfo
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


def test_names_are_compared_in_one_normal_form() -> None:
    apart = "A\u0308rger"  # as macOS names files
    assert resolved(f"<lora:{apart}>x", loras=[{"name": apart}]).loras == uses(Ärger=2.0)


def test_reason_of_a_lora_that_does_not_fit_is_given() -> None:
    misfits = {"loras": {"sketch": "does not fit: keys of no layer of this model: a.alpha"}}
    card = WITH_LORAS.model_copy(update={"misfits": misfits})
    for fields in ({"loras": [{"name": "sketch"}]}, {"prompt": "<lora:sketch>x"}):
        with pytest.raises(InvalidRequest) as refused:
            resolved(card=card, **fields)
        assert "keys of no layer of this model: a.alpha" in refused.value.message
        assert refused.value.problem == "unknown-lora"


FAST = LoraInfo(name="pencil", sampler="euler", schedule="leading", guidance_scale=1.0, steps=4)


def sampling(request: GenerationRequest) -> tuple[str, str, float, int]:
    return request.sampler, request.schedule, request.guidance_scale, request.steps


@pytest.mark.parametrize(
    "fields", [{"loras": [{"name": "pencil"}]}, {"prompt": "<lora:pencil:0.5>x"}]
)
def test_settings_that_a_lora_was_trained_for_are_defaults(fields: dict[str, Any]) -> None:
    card = WITH_LORAS.model_copy(update={"lora_info": (FAST,)})
    assert sampling(resolved(card=card, **fields)) == ("euler", "leading", 1.0, 4)
    request = resolved(card=card, **fields, steps=9, guidance_scale=3.0)
    assert sampling(request) == ("euler", "leading", 3.0, 9)
    others = {"sampler": CARD.default_sampler, "schedule": CARD.default_schedule}
    request = resolved(card=card, **fields, **others)
    assert sampling(request) == (*others.values(), 1.0, 4)


@pytest.mark.parametrize(
    "change", [{"sampler": "unknown"}, {"schedule": "unknown"}, {"steps": 999}, {"steps": None}]
)
def test_settings_that_the_model_does_not_offer_are_no_defaults(change: dict[str, Any]) -> None:
    card = WITH_LORAS.model_copy(update={"lora_info": (FAST.model_copy(update=change),)})
    assert sampling(resolved(card=card, loras=[{"name": "pencil"}])) == sampling(resolved())


def test_only_loras_with_an_effect_give_defaults_the_first_of_them() -> None:
    slow = FAST.model_copy(update={"name": "Ärger", "steps": 8})
    card = WITH_LORAS.model_copy(update={"lora_info": (FAST, slow)})
    both = [{"name": "Ärger"}, {"name": "pencil"}]
    assert resolved(card=card, loras=both).steps == 8
    assert resolved(card=card, loras=both[::-1]).steps == 4
    assert resolved(card=card, loras=[{"name": "Ärger", "weight": 0}, both[1]]).steps == 4
    assert resolved(card=card, loras=[{"name": "more1"}]).steps == CARD.default_steps


def test_weights_of_repeated_loras_are_added() -> None:
    request = resolved("<lora:pencil:0.5> x <lora:pencil>", loras=[{"name": "pencil"}])
    assert request.loras == uses(pencil=2.5)


def test_text_encoder_weights_are_added_and_left_out_where_equal() -> None:
    request = resolved("<lora:pencil:0.25:0.5> x <lora:pencil:1>")
    assert request.loras == (LoraUse(name="pencil", weight=1.5, text_encoder_weight=1.25),)
    request = resolved("<lora:pencil:0.5:1><lora:pencil:1:0.5>")
    assert request.loras == uses(pencil=1.5)
    assert resolved(loras=[{"name": "pencil", "text_encoder_weight": 1.0}]).loras == uses(pencil=1)


def test_mentions_for_other_blocks_or_steps_stay_apart() -> None:
    request = resolved(
        "<lora:pencil:1:lbw=OUTD><lora:pencil:0.5><lora:pencil:1:lbw=OUTD>", steps=10
    )
    assert [(use.weight, use.block_weights is None) for use in request.loras] == [
        (2.0, False), (0.5, True)]  # fmt: skip
    again = resolved(request.prompt, loras=[use.model_dump() for use in request.loras])
    assert again.loras == request.loras


def test_windows_name_the_loras_of_each_share_of_the_steps() -> None:
    always, late = LoraUse(name="a"), LoraUse(name="b", start=0.4)
    gone, text = LoraUse(name="c", end=0.4), LoraUse(name="d", weight=0, text_encoder_weight=1)
    assert lora_windows([]) == ((0.0, ()),)
    assert lora_windows([always, text]) == ((0.0, (always,)),)
    assert lora_windows([late]) == ((0.0, ()), (0.4, (late,)))
    assert lora_windows([gone, late]) == ((0.0, (gone,)), (0.4, (late,)))
    assert merged_sets([always, late]) == merged_sets([gone, late]) == 2
    assert merged_sets([late]) == merged_sets([always, text]) == 1
    assert merged_sets([LoraUse(name="a", weight=0)]) == 0


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
        ("prompt", "lora-syntax", {"prompt": "<lora:pencil:1:0.5:2>"}),
        ("prompt", "lora-syntax", {"prompt": "<lora:pencil:1:dyn=4>"}),
        ("prompt", "lora-weight", {"prompt": "<lora:pencil:5:0.5>"}),
        ("prompt", "lora-weight", {"prompt": f"<lora:pencil:1:lbw=9{16 * ',1'}>"}),
        ("prompt", "lora-interval", {"prompt": "<lora:pencil:1:step=5-3>"}),
        ("loras", "block-weights", {"loras": [{"name": "pencil", "block_weights": 13 * [1.0]}]}),
        ("loras", "lora-interval", {"loras": [{"name": "pencil", "start": 0.5, "end": 0.4}]}),
        (
            "loras",
            "too-many-lora-sets",
            {
                "loras": [
                    {"name": "pencil"},
                    {"name": "more1", "start": 0.3},
                    {"name": "more2", "end": 0.6},
                ]
            },
        ),
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
