"""From bytes to fields, and from headers to preferences."""

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from protocol.errors import InvalidRequest, MalformedBody
from service.schemas.body_parser import number_fields, parse_json
from service.schemas.data_uri import upload_bytes
from service.schemas.preferences import Preferences
from service.schemas.requests import BODIES

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_json_is_read_as_it_is(fields: dict[str, object]) -> None:
    assert parse_json(json.dumps(fields).encode()) == fields


@given(st.binary())
def test_other_bytes_are_refused(data: bytes) -> None:
    try:
        assert isinstance(parse_json(data), dict)
    except MalformedBody as refusal:
        assert refusal.field == "body"


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": -1E400}'])
def test_what_overflows_is_left_to_validation(text: str) -> None:
    value = parse_json(text.encode())["a"]
    assert isinstance(value, float)
    assert math.isinf(value)


def test_the_numbers_of_a_form_are_known() -> None:
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
    for body in BODIES.values():
        assert number_fields(body) == numbers


@given(st.binary(min_size=1))
def test_files_come_out_of_base64_as_they_went_in(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for form in (text, wrapped, f"data:image/png;base64,{text}"):
        assert upload_bytes("image", form) == data


@given(st.text())
def test_other_text_is_no_file(text: str) -> None:
    try:
        assert upload_bytes("image", text)
    except InvalidRequest as refusal:
        assert refusal.field == "image"


@pytest.mark.parametrize(
    ("header", "wanted"),
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
def test_preferences(header: list[str], wanted: Preferences) -> None:
    headers = Headers(raw=[(b"prefer", value.encode()) for value in header])
    assert Preferences.of(headers) == wanted


def test_patience() -> None:
    assert Preferences().patience_s(300) == 300
    assert Preferences(respond_async=True).patience_s(300) == 0
    assert Preferences(respond_async=True, wait_s=10).patience_s(300) == 10
    assert Preferences(wait_s=1000).patience_s(300) == 300
