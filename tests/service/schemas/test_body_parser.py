"""Parsing of bodies, files and the `Prefer` header."""

import base64
import codecs
import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from protocol.errors import InvalidRequest, MalformedBody
from protocol.request.generation_params import parse_params
from service.schemas.body_parser import bool_fields, number_fields, parse_json
from service.schemas.data_uri import decode_file
from service.schemas.preferences import Preferences
from service.schemas.requests import REQUESTS, TaskRequest, TextToImageRequest

SAMPLES: dict[str, object] = {
    "prompt": "x",
    "image": "QUJD",
    "mask": "QUJD",
    "class_id": 1,
    "boxes": [{"class": 1, "x": 0, "y": 0, "width": 1, "height": 1}],
}
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
    numbers |= {"eta", "guidance_rescale", "scale", "upscaler_blend", "tile_size", "tile_overlap"}
    numbers |= {"image_guidance_scale", "noise_level"}
    numbers |= {"left", "right", "top", "bottom", "edge_blend"}
    numbers |= {"mask_blur", "mask_grow", "mask_padding", "noise_multiplier"}
    for schema in REQUESTS.values():
        assert number_fields(schema) == numbers
        assert bool_fields(schema) == {
            "previews",
            "audio_stereo",
            "mask_invert",
            "metadata",
            "cancel_on_disconnect",
        }


@given(st.binary(min_size=1))
def test_base64_file_is_decoded(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for form in (text, wrapped, f"data:image/png;base64,{text}"):
        assert decode_file("image", form) == data


HEADS = st.sampled_from(
    [
        "data:image/png;base64,",
        "DATA:Image/PNG;BASE64,",
        "data:;base64,",
        "data:image/jpeg;name=a.jpg;charset=utf-8;base64,",
        "Data:application/octet-stream; Base64 ,",
        " data:text/plain;base64,",
    ]
)


@given(
    st.binary(min_size=1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "\n", "\r\n", " ", "\t"]),
    st.none() | HEADS,
)
def test_every_spelling_of_base64_is_decoded(
    data: bytes, url_safe: bool, padded: bool, space: str, head: str | None
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(data).decode()
    text = text if padded else text.rstrip("=")
    text = space.join([*(text[i : i + 7] for i in range(0, len(text), 7)), ""])
    assert decode_file("image", (head or "") + text) == data


@given(st.binary(min_size=1))
def test_percent_escapes_of_a_data_uri_are_decoded(data: bytes) -> None:
    text = base64.b64encode(data).decode().replace("+", "%2B").replace("/", "%2f")
    assert decode_file("image", "data:image/png;base64," + text.replace("=", "%3D")) == data


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AAAAA",
        "AA*A",
        "AAA=AAAA",
        "é",
        "x;base64,AAAA",
        "data:base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64",
        "http://a/b.png",
    ],
)
def test_text_that_is_no_base64_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decode_file("image", text)
    assert raised.value.problem == "bad-base64"


def test_byte_order_mark_is_skipped() -> None:
    assert parse_json(codecs.BOM_UTF8 + b'{"prompt": "x"}') == {"prompt": "x"}
    with pytest.raises(MalformedBody):
        parse_json(2 * codecs.BOM_UTF8 + b"{}")


@pytest.mark.parametrize("schema", REQUESTS.values())
def test_null_is_the_same_as_a_field_left_out(schema: type[TaskRequest]) -> None:
    optional = {
        name: None for name, field in schema.model_fields.items() if not field.is_required()
    }
    required = {name: SAMPLES[name] for name in schema.model_fields.keys() - optional.keys()}
    assert parse_params(schema, required | optional) == parse_params(schema, required)
    for name in required:
        with pytest.raises(InvalidRequest) as raised:
            parse_params(schema, required | {name: None})
        assert raised.value.field == name
        assert raised.value.value == "null"


@pytest.mark.parametrize("schema", REQUESTS.values())
def test_json_schema_has_what_is_accepted(schema: type[TaskRequest]) -> None:
    described = schema.model_json_schema(mode="validation")
    validate = jsonschema.Draft202012Validator(described).validate
    required = (
        {name: SAMPLES[name] for name in described["required"]} if "required" in described else {}
    )
    validate(required)
    for name in described["properties"].keys() - required.keys():
        validate(required | {name: None})
    validate(required | {"steps": 20.0, "seed": -1, "loras": [{"name": "x", "weight": None}]})
    for field, value in (("steps", 20.5), ("seed", -2), ("n", 0), ("unknown", None)):
        with pytest.raises(jsonschema.ValidationError):
            validate(required | {field: value})
        with pytest.raises(InvalidRequest):
            parse_params(schema, required | {field: value})


@pytest.mark.parametrize("field", ["width", "steps", "n", "clip_skip", "quality", "hires_steps"])
def test_integer_may_be_written_with_a_fraction_of_zero(field: str) -> None:
    found = getattr(parse_params(TextToImageRequest, {"prompt": "", field: 12.0}), field)
    assert found == 12
    assert isinstance(found, int)
    for wrong in (12.5, True, "12", 1e300):
        with pytest.raises(InvalidRequest) as raised:
            parse_params(TextToImageRequest, {"prompt": "", field: wrong})
        assert raised.value.field == field


def test_seed_of_minus_one_is_a_random_seed() -> None:
    assert parse_params(TextToImageRequest, {"prompt": "", "seed": -1}).seed is None
    assert parse_params(TextToImageRequest, {"prompt": "", "seed": -1.0}).seed is None


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
