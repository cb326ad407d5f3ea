"""Reading requests as clients of other systems write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from service.dialects.lenient import boolean, coerced, integer, number, parse_size, translated
from service.schemas.body_parser import Fields

NAMES = {"num_inference_steps": "steps", "steps": "steps", "cfg_scale": "guidance_scale"}


@given(st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6, allow_nan=False))
def test_a_number_in_a_text_is_that_number(value: float) -> None:
    assert number(value) == value
    text = repr(value)
    assert number(text) == value or "e" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("-1", -1),
        (" 512.0 ", 512),
        (512.7, 512),
        (-4.5, -4),
        ("ten", "ten"),
        (True, True),
        (None, None),
        ([3], [3]),
        (math.inf, math.inf),
        ("9" * 400, "9" * 400),
    ],
)
def test_an_integer_loses_its_fraction(value: object, expected: object) -> None:
    assert integer(value) == expected
    assert type(integer(value)) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("True", True), (" off ", False), (1, True), (0.0, False), (2, 2), ("maybe", "maybe")],
)
def test_truth_values(value: object, expected: object) -> None:
    assert boolean(value) is expected or boolean(value) == expected


def test_only_numeric_and_boolean_fields_are_converted() -> None:
    fields: Fields = {
        "prompt": "7",
        "steps": "20",
        "previews": "true",
        "seed": None,
        "n": "",
        "model": "1",
    }
    assert coerced(fields, GenerationParams) == {
        "prompt": "7",
        "steps": 20,
        "previews": True,
        "model": "1",
    }


def test_fields_get_our_names_and_unknown_ones_are_left_out() -> None:
    fields = {"steps": 20, "cfg_scale": "7", "auth": "secret", "num_inference_steps": None}
    assert translated(fields, NAMES) == (
        {"steps": 20, "guidance_scale": "7"},
        {"steps": "steps", "guidance_scale": "cfg_scale"},
    )


def test_two_names_of_a_field_must_agree() -> None:
    assert translated({"steps": 20, "num_inference_steps": "20"}, NAMES)[0] == {"steps": "20"}
    with pytest.raises(InvalidRequest, match="the same as num_inference_steps"):
        translated({"steps": 20, "num_inference_steps": 30}, NAMES)


@given(st.integers(0, 999_999), st.integers(0, 999_999))
def test_sizes(width: int, height: int) -> None:
    for text in (f"{width}x{height}", f" {width} X {height}", f"{width}×{height}"):
        assert parse_size("size", text) == (width, height)


@pytest.mark.parametrize("text", ["", "512", "512x", "x512", "-1x5", "1e3x5", "1x2x3", 5, None, []])
def test_other_texts_are_no_sizes(text: object) -> None:
    with pytest.raises(InvalidRequest, match="as in 512x512"):
        parse_size("size", text)
