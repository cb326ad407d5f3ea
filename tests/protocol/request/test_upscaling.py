"""Requests for upscalers: defaults, bounds and errors."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import InvalidRequest, NotReady
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.model_card import ModelCard, UpscalerInfo
from protocol.request.object_keys import input_key
from protocol.request.request import GenerationRequest, HiresFix, Task, Upscaling
from protocol.request.resolve import choose_upscaling_card, resolve
from protocol.request.samplers import LATENT_MODES
from tests.protocol.records import CARD

UPSCALERS = (UpscalerInfo(name="4x-UltraSharp", scale=4), UpscalerInfo(name="x2", scale=2))
WITH = CARD.model_copy(update={"upscalers": UPSCALERS, "max_side": 512})


def resolved(
    size: tuple[int, int] = (100, 50), task: Task = Task.UPSCALE, **fields: Any
) -> GenerationRequest:
    image = InputImage(key=input_key(b"x"), width=size[0], height=size[1])
    params = parse_params(GenerationParams, fields)
    return resolve(task, params, WITH, lambda text: 1, image if task is Task.UPSCALE else None)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"upscaler": "4x-UltraSharp"}, (400, 200)),
        ({"upscaler": "x2"}, (200, 100)),
        ({"upscaler": "lanczos"}, (400, 200)),
        ({"upscaler": "nearest", "scale": 1.5}, (150, 75)),
        ({"upscaler": "x2", "scale": 1}, (100, 50)),
        ({"upscaler": "x2", "scale": 7.77}, (777, 388)),
        ({"upscaler": "x2", "scale": 16.0}, (1600, 800)),
    ],
)
def test_size_is_that_of_the_image_times_the_scale(
    fields: dict[str, Any], size: tuple[int, int]
) -> None:
    request = resolved(**fields)
    assert (request.width, request.height) == size
    scale = request.width / 100
    assert request.upscaling == Upscaling(upscaler=fields["upscaler"], scale=scale)
    assert (request.task, request.steps, request.strength) == (Task.UPSCALE, 1, None)
    assert request.work > 0


def test_two_upscalers() -> None:
    request = resolved(upscaler="x2", upscaler_2="lanczos", upscaler_blend=0.25)
    both = {"upscaler": "x2", "upscaler_2": "lanczos", "blend": 0.25}
    assert request.upscaling == Upscaling(**both, scale=2)
    assert request.upscalers == ("x2", "lanczos")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("upscaler", {"upscaler": "other"}),
        ("upscaler", {"upscaler": ""}),
        ("upscaler_2", {"upscaler": "x2", "upscaler_2": "other"}),
        ("upscaler_2", {"upscaler_2": "x2"}),
        ("upscaler_blend", {"upscaler": "x2", "upscaler_blend": 0.5}),
        ("upscaler_blend", {"upscaler": "x2", "upscaler_2": "lanczos", "upscaler_blend": 1.1}),
        ("upscaler_blend", {"upscaler": "x2", "upscaler_2": "lanczos", "upscaler_blend": -0.1}),
        ("scale", {"scale": 2}),
        ("scale", {"upscaler": "x2", "scale": 0.5}),
        ("scale", {"upscaler": "x2", "scale": 16.5}),
        ("scale", {"upscaler": "x2", "scale": float("nan")}),
        ("scale", {"upscaler": "x2", "scale": "2"}),
        ("steps", {"upscaler": "x2", "steps": 20}),
        ("sampler", {"upscaler": "x2", "sampler": "euler"}),
        ("guidance_scale", {"upscaler": "x2", "guidance_scale": 7.0}),
        ("loras", {"upscaler": "x2", "loras": [{"name": "style"}]}),
        ("prompt", {"upscaler": "x2", "prompt": "a cat"}),
        ("width", {"upscaler": "x2", "width": 200}),
        ("strength", {"upscaler": "x2", "strength": 0.5}),
        ("hires_upscaler", {"upscaler": "x2", "hires_upscaler": "x2"}),
        ("n", {"upscaler": "x2", "n": 2}),
    ],
)
def test_invalid_fields_are_refused(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(**fields)
    assert no.value.field == field
    assert no.value.bound


@pytest.mark.parametrize(
    ("size", "fields", "field"),
    [
        ((5000, 5000), {"upscaler": "x2", "scale": 4}, "scale"),  # 20,000 pixels
        ((5000, 5000), {"upscaler": "4x-UltraSharp"}, "image"),
        ((2000, 10), {"upscaler": "lanczos", "scale": 9}, "scale"),  # a side of 18,000
        ((4000, 4000), {"upscaler": "4x-UltraSharp", "scale": 1.5}, "scale"),  # on the way to it
        ((4000, 4000), {"upscaler": "x2", "scale": 2.2}, "scale"),
        ((4000, 4000), {"upscaler": "nearest", "upscaler_2": "4x-UltraSharp", "scale": 1}, "scale"),
    ],
)
def test_sizes_beyond_the_bound_are_refused(
    size: tuple[int, int], fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(size, **fields)
    assert (no.value.field, no.value.problem) == (field, "too-many-pixels")
    assert "16384" in str(no.value.bound)


@pytest.mark.parametrize("size", [(4096, 4096), (1, 1), (16384, 1)])
def test_sizes_up_to_the_bound_are_accepted(size: tuple[int, int]) -> None:
    scale = 2.0 if size[0] < 16384 else 1.0
    assert resolved(size, upscaler="nearest", scale=scale).width == size[0] * scale


def test_other_tasks_take_no_upscaler() -> None:
    with pytest.raises(InvalidRequest) as no:
        resolved(task=Task.TXT2IMG, prompt="x", upscaler="x2")
    assert (no.value.field, no.value.problem) == ("upscaler", "not-for-this-task")


def test_second_pass_with_an_upscaler() -> None:
    sizes: dict[str, Any] = {"width": 128, "height": 64, "steps": 10}
    request = resolved(task=Task.TXT2IMG, prompt="x", hires_scale=2.0, hires_upscaler="x2", **sizes)
    assert request.enlargement == HiresFix(
        width=256, height=128, steps=10, strength=0.7, upscaler="x2"
    )
    assert request.upscalers == ("x2",)
    for fields in ({"hires_upscaler": "x2"}, {"hires_scale": 2.0, "hires_upscaler": "other"}):
        with pytest.raises(InvalidRequest) as no:
            resolved(task=Task.TXT2IMG, prompt="x", **sizes, **fields)
        assert no.value.field == "hires_upscaler"


@pytest.mark.parametrize("mode", LATENT_MODES)
def test_second_pass_of_latents_needs_no_upscaler(mode: str) -> None:
    sizes: dict[str, Any] = {"width": 128, "height": 64, "hires_scale": 2.0}
    request = resolved(task=Task.TXT2IMG, prompt="x", hires_upscaler=mode, **sizes)
    assert request.enlargement is not None
    assert request.enlargement.upscaler == mode
    assert request.upscalers == ()
    with pytest.raises(InvalidRequest, match=mode):
        resolved(task=Task.TXT2IMG, prompt="x", hires_upscaler="latent-other", **sizes)


def test_requests_without_upscalers_are_stored_as_before() -> None:
    request = resolved(
        task=Task.TXT2IMG, prompt="x", width=128, height=64, steps=10, hires_scale=2.0
    )
    stored = request.model_dump(mode="json")
    assert "upscaling" not in stored
    assert "upscaler" not in stored["enlargement"]
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request


def cards() -> dict[str, ModelCard]:
    few = WITH.model_copy(update={"name": "few", "upscalers": UPSCALERS[:1]})
    none = CARD.model_copy(update={"name": "none"})
    return {"none": none, "few": few, "all": WITH.model_copy(update={"name": "all"})}


@pytest.mark.parametrize(
    ("names", "model", "preferred", "chosen"),
    [
        (("x2",), None, ["none", "few"], "all"),
        (("4x-UltraSharp",), None, ["none"], "few"),
        (("4x-UltraSharp",), None, ["all"], "all"),
        ((), None, ["none"], "none"),
        ((), "few", ["none"], "few"),
    ],
)
def test_model_whose_workers_have_the_upscalers_is_chosen(
    names: tuple[str, ...], model: str | None, preferred: list[str], chosen: str
) -> None:
    assert (
        choose_upscaling_card(
            {f"upscaler_{name}": name for name in names}, model, cards(), preferred
        ).name
        == chosen
    )


def test_unknown_upscaler_lists_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"lanczos, nearest, 4x-UltraSharp, x2"):
        choose_upscaling_card({"upscaler": "x3"}, None, cards())
    with pytest.raises(InvalidRequest) as no:
        choose_upscaling_card({"upscaler_2": "x2"}, "few", cards())
    assert no.value.field == "upscaler_2"
    assert "x2" not in str(no.value.bound)
    with pytest.raises(InvalidRequest) as no:
        choose_upscaling_card({}, "unknown", cards())
    assert no.value.field == "model"
    with pytest.raises(NotReady):
        choose_upscaling_card({}, None, {})
