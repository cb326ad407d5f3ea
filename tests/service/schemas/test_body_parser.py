"""Parsing of bodies, files and the `Prefer` header."""

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from protocol.errors import InvalidRequest, MalformedBody
from service.schemas.body_parser import number_fields, parse_json
from service.schemas.data_uri import decode_file
from service.schemas.preferences import Preferences
from service.schemas.requests import REQUESTS

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_json_is_parsed_unchanged(fields: dict[str, object]) -> None:
    assert parse_json(json.dumps(fields).encode()) == fields


@given(st.binary())
def test_other_bytes_are_rejected(data: bytes) -> None:
    try:
        assert isinstance(parse_json(data), dict)
    except MalformedBody as error:
        assert error.field == "body"


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": -1E400}'])
def test_float_overflow_is_left_to_validation(text: str) -> None:
    value = parse_json(text.encode())["a"]
    assert isinstance(value, float)
    assert math.isinf(value)


def test_number_fields_of_each_request() -> None:
    numbers = {"width", "height", "steps", "guidance_scale", "seed", "n", "strength", "quality"}
    numbers |= {
        "deadline_s",
        "guidance_start",
        "guidance_end",
        "class_id",
        "refiner_start",
        "clip_skip",
    }
    numbers |= {"aesthetic_score", "hires_scale", "hires_steps", "hires_strength"}
    numbers |= {"eta", "guidance_rescale"}
    for schema in REQUESTS.values():
        assert number_fields(schema) == numbers


@given(st.binary(min_size=1))
def test_base64_file_is_decoded(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for form in (text, wrapped, f"data:image/png;base64,{text}"):
        assert decode_file("image", form) == data


@given(st.text())
def test_other_text_is_rejected_as_a_file(text: str) -> None:
    try:
        assert decode_file("image", text)
    except InvalidRequest as error:
        assert error.field == "image"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ([], Preferences()),
        (["respond-async"], Preferences(respond_async=True)),
        (["Respond-Async, wait=10"], Preferences(respond_async=True, wait_s=10)),
        (["wait=5", "respond-async"], Preferences(respond_async=True, wait_s=5)),
        (['respond-async; x=1, wait="7"'], Preferences(respond_async=True, wait_s=7)),
        (["wait=soon, handling=lenient"], Preferences()),
        (["wait=-1"], Preferences()),
        (["wait=99999999999"], Preferences()),
        ([",,;=,"], Preferences()),
    ],
)
def test_prefer_header_is_parsed(header: list[str], expected: Preferences) -> None:
    headers = Headers(raw=[(b"prefer", value.encode()) for value in header])
    assert Preferences.from_headers(headers) == expected


def test_timeout_follows_the_preferences() -> None:
    assert Preferences().timeout_s(300) == 300
    assert Preferences(respond_async=True).timeout_s(300) == 0
    assert Preferences(respond_async=True, wait_s=10).timeout_s(300) == 10
    assert Preferences(wait_s=1000).timeout_s(300) == 300
