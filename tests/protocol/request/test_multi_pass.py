"""The second pass of a request, and the errors in it."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.request import GenerationRequest, HiresFix, Refinement, Task
from protocol.request.resolve import resolve
from tests.protocol.records import CARD

BASE = CARD.model_copy(update={"refiners": ("sdxl-refiner", "other"), "max_side": 512})


def resolved(task: Task = Task.TXT2IMG, **fields: Any) -> GenerationRequest:
    params = GenerationParams(prompt="x", **{"width": 128, "height": 64, "steps": 10, **fields})
    return resolve(task, params, BASE, lambda text: 1)


def test_refiner_starts_at_0_8() -> None:
    request = resolved(refiner="other", aesthetic_score=7)
    assert request.refinement == Refinement(model="other", start=0.8)
    assert request.aesthetic_score == 7


def test_second_pass_has_the_steps_of_the_first() -> None:
    request = resolved(hires_scale=2)
    assert request.enlargement == HiresFix(width=256, height=128, steps=10, strength=0.7)
    assert request.work == pytest.approx(resolved().work * (1 + 0.7 * 4))


def test_hires_size_is_rounded_to_the_size_multiple() -> None:
    request = resolved(hires_scale=1.3, hires_steps=6, hires_strength=0.5)
    assert request.enlargement is not None
    assert (request.enlargement.width, request.enlargement.height) == (168, 80)  # of 166.4, 83.2


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("refiner", {"refiner": "third"}),
        ("refiner_start", {"refiner_start": 0.5}),
        ("hires_scale", {"refiner": "other", "hires_scale": 2}),
        ("hires_scale", {"hires_scale": 2.1}),
        ("hires_steps", {"hires_steps": 4}),
        ("hires_strength", {"hires_strength": 0.4}),
        ("hires_strength", {"hires_scale": 2, "hires_steps": 2, "hires_strength": 0.4}),
        ("hires_steps", {"hires_scale": 2, "hires_steps": 151}),
        ("steps", {"refiner": "other", "steps": 1}),
        ("aesthetic_score", {"aesthetic_score": 5}),
    ],
)
def test_invalid_combinations_are_refused(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(**fields)
    assert no.value.field == field
    assert no.value.bound


def test_other_tasks_refuse_a_refiner() -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(Task.UNCONDITIONAL, refiner="other")
    assert no.value.field in ("prompt", "refiner")
