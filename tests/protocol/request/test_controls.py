"""The ControlNets of a request, each with its control image and interval."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.request import ControlUse, GenerationRequest, Task
from protocol.request.resolve import resolve
from tests.protocol.records import CARD

NAMES = ("canny", "depth", *(f"more{i}" for i in range(30)))
WITH_CONTROLNETS = CARD.model_copy(update={"controlnets": NAMES})


def input_image(letter: str) -> InputImage:
    side = CARD.default_width
    return InputImage(key="inputs/" + 64 * letter, width=side, height=side)


def resolved(
    *controls: dict[str, Any],
    task: Task = Task.TXT2IMG,
    card: Any = WITH_CONTROLNETS,
    images: tuple[InputImage, ...] | None = None,
) -> GenerationRequest:
    fields = {"prompt": "a cat", "controls": list(controls)}
    params = parse_params(GenerationParams, json.loads(json.dumps(fields)))
    shown = tuple(input_image(c) for c in "abcd"[: len(controls)]) if images is None else images
    image = input_image("e") if task.takes_image else None
    mask = input_image("f") if task.takes_mask else None
    return resolve(task, params, card, lambda text: len(text.split()), image, mask, shown)


@pytest.mark.parametrize("task", [Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT])
def test_each_control_gets_its_image(task: Task) -> None:
    request = resolved(
        {"model": "depth", "weight": 0.5, "start": 0.1, "end": 0.6}, {"model": "canny"}, task=task
    )
    assert request.controls == (
        ControlUse(model="depth", image_key="inputs/" + 64 * "a", weight=0.5, start=0.1, end=0.6),
        ControlUse(model="canny", image_key="inputs/" + 64 * "b"),
    )
    own = {Task.TXT2IMG: "", Task.IMG2IMG: "e", Task.INPAINT: "ef"}[task]
    assert request.input_keys == tuple("inputs/" + 64 * letter for letter in own + "ab")
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request


def test_request_without_controls_has_none() -> None:
    assert resolved(card=CARD).controls == ()
    assert resolved(card=CARD).input_keys == ()


@pytest.mark.parametrize(
    ("field", "problem", "controls"),
    [
        ("controls.0.model", "unknown-controlnet", [{"model": "Canny"}]),
        ("controls.1.model", "unknown-controlnet", [{"model": "canny"}, {"model": "../canny"}]),
        ("controls.0.start", "control-interval", [{"model": "canny", "start": 0.5, "end": 0.4}]),
        ("controls.0.weight", "out-of-range", [{"model": "canny", "weight": 2.5}]),
        ("controls.0.weight", "out-of-range", [{"model": "canny", "weight": -0.1}]),
        ("controls.0.end", "out-of-range", [{"model": "canny", "end": 1.1}]),
        ("controls.0.path", "unknown-field", [{"model": "canny", "path": "/etc"}]),
        ("controls.0.model", "missing-field", [{"weight": 1}]),
        ("controls", "too-many", [{"model": "canny"}] * 5),
    ],
)
def test_invalid_controls_are_refused(
    field: str, problem: str, controls: list[dict[str, Any]]
) -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(*controls)
    assert (no.value.field, no.value.problem) == (field, problem)


def test_control_without_image_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="as many as there are controls"):
        resolved({"model": "canny"}, {"model": "depth"}, images=(input_image("a"),))


def test_error_lists_available_controlnets() -> None:
    with pytest.raises(InvalidRequest, match=r"one of canny, depth, .* and 12 more$"):
        resolved({"model": "water"})
    with pytest.raises(InvalidRequest, match="there are no ControlNets for"):
        resolved({"model": "canny"}, card=CARD)


def test_work_grows_with_each_controlnet() -> None:
    plain = resolved().work
    assert resolved({"model": "canny"}).work == pytest.approx(plain * 4 / 3)
    half = {"model": "canny", "start": 0.5}
    assert resolved(half, half).work == pytest.approx(plain * 4 / 3)


def test_other_tasks_refuse_controls() -> None:
    card = WITH_CONTROLNETS.model_copy(update={"tasks": tuple(Task), "classes": 3})
    params = parse_params(GenerationParams, {"class_id": 1, "controls": [{"model": "canny"}]})
    with pytest.raises(InvalidRequest, match="absent for class"):
        resolve(Task.CLASS, params, card, len, controls=[input_image("a")])
