"""Fields that only models of some kinds read."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import InvalidRequest
from protocol.recipes.client_fields import needed_files
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import input_key
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.tasks import Task
from tests.protocol.records import CARD

IMAGE = InputImage(key=input_key(b""), width=64, height=64)
EDIT = CARD.model_copy(update={"default_image_guidance_scale": 1.5})


DEPTH = CARD.model_copy(update={"reads_depth_map": True})
NOISY = CARD.model_copy(update={"default_noise_level": 20, "max_noise_level": 350})


def resolved(
    card: ModelCard,
    task: Task = Task.IMG2IMG,
    depth_map: InputImage | None = None,
    **fields: Any,
) -> GenerationRequest:
    params = parse_params(GenerationParams, {"prompt": "make it red", **fields})
    image = IMAGE if task.takes_image else None
    return resolve(task, params, card, lambda _: 1, image, depth_map=depth_map)


def test_image_guidance_scale_is_the_models_or_the_clients() -> None:
    assert resolved(EDIT).image_guidance_scale == 1.5
    assert resolved(EDIT, image_guidance_scale=3).image_guidance_scale == 3.0
    assert resolved(CARD).image_guidance_scale is None
    assert "image_guidance_scale" not in resolved(CARD).model_dump_json()


@pytest.mark.parametrize(
    ("card", "task", "scale", "bound"),
    [
        (EDIT, Task.IMG2IMG, 0.9, "at least 1"),
        (EDIT, Task.IMG2IMG, 20.5, "at most 20"),
        (EDIT, Task.TXT2IMG, 1.5, "absent for txt2img"),
        (CARD, Task.IMG2IMG, 1.5, "does not edit images by instructions"),
    ],
)
def test_image_guidance_scale_out_of_bounds_is_refused(
    card: ModelCard, task: Task, scale: float, bound: str
) -> None:
    with pytest.raises(InvalidRequest, match=bound) as refused:
        resolved(card, task, image_guidance_scale=scale)
    assert refused.value.field == "image_guidance_scale"


def test_guidance_by_an_image_is_a_third_row_of_work() -> None:
    rows: dict[str, Any] = {"guidance_scale": 4, "steps": 10, "guidance_end": 0.5}
    both = resolved(EDIT, **rows).work
    assert both == pytest.approx(resolved(EDIT, **rows, image_guidance_scale=1).work * 2 / 1.5)
    off = rows | {"guidance_scale": 1}
    assert resolved(EDIT, **off).work == resolved(EDIT, **off, image_guidance_scale=1).work


def test_depth_map_is_an_input_of_its_request() -> None:
    key = input_key(b"depth")
    request = resolved(DEPTH, depth_map=IMAGE.model_copy(update={"key": key}))
    assert request.depth_map_key == key
    assert request.input_keys == (IMAGE.key, key)
    assert needed_files(request) == ["image", "depth_map"]


@pytest.mark.parametrize(
    ("card", "task", "given", "bound"),
    [
        (DEPTH, Task.IMG2IMG, False, "given: tiny is conditioned on the depth of the image"),
        (CARD, Task.IMG2IMG, True, "absent: tiny reads no depth map"),
        (DEPTH, Task.TXT2IMG, True, "absent for txt2img"),
    ],
)
def test_depth_map_is_given_for_models_that_read_it(
    card: ModelCard, task: Task, given: bool, bound: str
) -> None:
    with pytest.raises(InvalidRequest, match=bound) as refused:
        resolved(card, task, IMAGE if given else None)
    assert refused.value.field == "depth_map"


def test_noise_level_is_the_models_or_the_clients() -> None:
    assert resolved(NOISY, Task.UPSCALE).noise_level == 20
    assert resolved(NOISY, Task.UPSCALE, noise_level=0).noise_level == 0
    assert resolved(NOISY).noise_level is None
    assert resolved(CARD, Task.UPSCALE).noise_level is None


@pytest.mark.parametrize(
    ("card", "task", "level", "bound"),
    [
        (NOISY, Task.UPSCALE, -1, "at least 0"),
        (NOISY, Task.UPSCALE, 351, "at most 350"),
        (NOISY, Task.UPSCALE, 1001, "at most 1000"),
        (NOISY, Task.IMG2IMG, 20, "absent for img2img"),
        (CARD, Task.UPSCALE, 20, "adds no noise to the image"),
    ],
)
def test_noise_level_out_of_bounds_is_refused(
    card: ModelCard, task: Task, level: int, bound: str
) -> None:
    with pytest.raises(InvalidRequest, match=bound) as refused:
        resolved(card, task, noise_level=level)
    assert refused.value.field == "noise_level"


def test_model_may_upscale_without_a_prompt() -> None:
    params = parse_params(GenerationParams, {})
    request = resolve(Task.UPSCALE, params, NOISY, lambda _: 1, IMAGE)
    assert (request.prompt, request.noise_level) == ("", 20)
    assert resolved(NOISY, Task.UPSCALE, prompt="a cat").prompt == "a cat"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "noise_level"])
def test_upscaler_refuses_the_fields_of_models(field: str) -> None:
    fields = {field: 20 if field == "noise_level" else "secret", "upscaler": "lanczos"}
    params = parse_params(GenerationParams, fields)
    with pytest.raises(InvalidRequest, match="has no effect on an upscaler") as refused:
        resolve(Task.UPSCALE, params, NOISY, lambda _: 1, IMAGE)
    assert refused.value.field == field
    assert "secret" not in str(refused.value)
