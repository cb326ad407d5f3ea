"""Bounds in errors are exact: a client that sends the bound it was told is accepted."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.multi_pass import least_steps, least_strength
from protocol.request.object_keys import input_key
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.tasks import Task
from tests.service.conftest import ABLE

NUMBER = re.compile(r"(at least|at most|above|below|up to .*?which is|between) (-?[0-9.e+-]*[0-9])")
CARD = ABLE.model_copy(
    update={
        "max_guidance_scale": 7.123456789,
        "default_steps": 1,
        "controlnets": ("canny",),
        "loras": ("pencil",),
    }
)
IMAGE = InputImage(key=input_key(b""), width=64, height=64)
BOX = {"class": 0, "x": 0, "y": 0, "width": 0.5, "height": 0.5}
# Fields of numbers, alone and inside lists.
FIELDS = [
    "clip_skip",
    "width",
    "height",
    "steps",
    "eta",
    "guidance_scale",
    "image_guidance_scale",
    "noise_level",
    "guidance_rescale",
    "guidance_start",
    "guidance_end",
    "seed",
    "n",
    "strength",
    "refiner_start",
    "aesthetic_score",
    "hires_scale",
    "hires_steps",
    "hires_strength",
    "quality",
    "deadline_s",
    "class_id",
]
NESTED = [
    ("loras", {"name": "x"}, "weight"),
    *(("controls", {"model": "x"}, name) for name in ("weight", "start", "end")),
    *(("boxes", BOX, name) for name in ("class", "x", "y", "width", "height")),
]


def params_of(**fields: object) -> GenerationParams:
    return parse_params(GenerationParams, fields)


def resolved(task: Task = Task.TXT2IMG, **fields: Any) -> GenerationRequest:
    if task.takes("prompt"):
        fields = {"prompt": "x", **fields}
    image = IMAGE if task.takes_image else None
    mask = IMAGE if task.takes_mask else None
    controls = [IMAGE] * len(fields.get("controls", ()))
    return resolve(task, params_of(**fields), CARD, lambda _: 1, image, mask, controls)


def obeyed(error: InvalidRequest) -> float:
    """Return a value that obeys the bound in an error, the closest one to it."""
    found = NUMBER.search(error.bound)
    assert found, error.message
    assert found[2] in error.message
    bound = float(found[2])
    match found[1]:
        case "above":
            return math.nextafter(bound, math.inf)
        case "below" if isinstance(error.value, int):
            return bound - 1
        case "below":
            return math.nextafter(bound, -math.inf)
        case _:
            return bound


def check_obeying_works(ask: Any, value: float) -> None:
    """Send `value`, and whatever bounds the errors name, until the request is accepted."""
    for _ in range(3):
        try:
            ask(value)
        except InvalidRequest as error:
            value = obeyed(error)
        else:
            return
    ask(value)


@given(st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6))
def test_printed_bound_is_read_as_the_same_number(bound: float) -> None:
    assert float(exact(bound)) == bound


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [-(10**9), 0, 10**9, 2**60])
def test_printed_bound_of_a_field_is_accepted(field: str, value: int) -> None:
    check_obeying_works(lambda value: params_of(**{field: value}), value)


@pytest.mark.parametrize(("field", "item", "name"), NESTED)
@pytest.mark.parametrize("value", [-(10**9), 0, 10**9])
def test_printed_bound_inside_a_list_is_accepted(
    field: str, item: dict[str, object], name: str, value: int
) -> None:
    check_obeying_works(lambda value: params_of(**{field: [item | {name: value}]}), value)


@pytest.mark.parametrize("field", ["clip_skip", "steps", "guidance_scale", "n", "class_id"])
def test_printed_bound_of_a_card_is_accepted(field: str) -> None:
    task = Task.CLASS if field == "class_id" else Task.TXT2IMG
    above = {"clip_skip": 12, "steps": 1000, "guidance_scale": 99.9, "n": 64, "class_id": 99}
    check_obeying_works(lambda value: resolved(task, **{field: value}), above[field])


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (120, 200), (72, 64), (256, 64)])
def test_printed_scale_is_accepted(size: tuple[int, int]) -> None:
    width, height = size
    check_obeying_works(
        lambda value: resolved(width=width, height=height, hires_scale=value, steps=4), 7.9
    )


@given(st.floats(0, 1), st.floats(0, 1))
def test_printed_start_of_an_interval_is_accepted(start: float, end: float) -> None:
    check_obeying_works(
        lambda value: resolved(guidance_start=value, guidance_end=end, steps=4), start
    )
    control = {"model": "canny", "end": end}
    check_obeying_works(lambda value: resolved(controls=[control | {"start": value}]), start)


@given(st.floats(0, 1), st.floats(0, 1, exclude_min=True))
def test_printed_extent_of_a_box_is_accepted(x: float, width: float) -> None:
    def ask(value: float) -> None:
        resolved(Task.LAYOUT, boxes=[BOX | {"x": x, "width": value}])

    try:
        check_obeying_works(ask, width)
    except InvalidRequest as error:
        assert error.field == "boxes.0.x" or x > 1 - 1e-6


@given(st.integers(1, 1000))
def test_least_strength_is_exact(steps: int) -> None:
    strength = least_strength(steps)
    assert int(steps * strength) == 1
    assert int(steps * math.nextafter(strength, 0)) == 0


@given(st.floats(1e-3, 1))
def test_least_steps_is_exact(strength: float) -> None:
    steps = least_steps(strength)
    assert int(steps * strength) >= 1
    assert int((steps - 1) * strength) == 0


@pytest.mark.parametrize("steps", range(1, 51))
def test_printed_strength_is_accepted(steps: int) -> None:
    check_obeying_works(
        lambda value: resolved(Task.IMG2IMG, steps=steps, strength=value), 0.9 / steps
    )
    check_obeying_works(
        lambda value: resolved(hires_scale=1.25, hires_steps=steps, hires_strength=value),
        0.9 / steps,
    )


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4))
def test_sum_of_weights_has_the_printed_bound(weights: list[float]) -> None:
    loras = [{"name": "pencil", "weight": weight} for weight in weights]
    try:
        resolved(loras=loras)
    except InvalidRequest as error:
        assert error.bound == "between -4 and 4 in all"
        assert abs(sum(weights)) > 4 - 1e-5 or len(weights) > 2


# ---- fields that were not sent -----------------------------------------------------------------


def test_default_steps_leave_one_for_the_default_strength() -> None:
    assert resolved(Task.IMG2IMG).steps == 2  # of 1 step, a strength of 0.75 would leave none


def test_steps_are_named_where_the_strength_was_not_sent() -> None:
    with pytest.raises(InvalidRequest) as raised:
        resolved(Task.IMG2IMG, steps=1)
    assert raised.value.field == "steps"
    assert raised.value.bound == "at least 2, for strength is 0.75 by default"
    assert resolved(Task.IMG2IMG, steps=2).steps == 2


def test_default_steps_of_a_second_pass_leave_one() -> None:
    second = resolved(hires_scale=1.25, steps=1).enlargement
    assert second is not None
    assert second.steps == 2
    with pytest.raises(InvalidRequest) as raised:
        resolved(hires_scale=1.25, steps=1, hires_steps=1)
    assert raised.value.field == "hires_steps"


@given(
    st.dictionaries(
        st.sampled_from([field for field in FIELDS if field not in ("class_id", "refiner_start")]),
        st.sampled_from([0, 1, 2, 8, 16, 64, 300, 0.1, 0.5, 1.5]),
        max_size=3,
    ),
    st.sampled_from([Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT]),
)
def test_no_error_names_a_field_that_was_not_sent(fields: dict[str, Any], task: Task) -> None:
    try:
        resolved(task, **fields)
    except InvalidRequest as error:
        assert error.field in fields, error.message
