"""Hostile requests: each gets a 4xx in OpenAI's form, and the service goes on."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.dialects.diffusion_fields import ALIASES, OWN, SAMPLERS
from service.dialects.openai.requests import ImagesRequest
from tests.service.conftest import MAX_BODY_BYTES, Running
from tests.service.dialects.hostile_bodies import (
    FORM,
    FORMS,
    IMAGE,
    JSON_BODIES,
    WRONG,
    sampled,
    values,
)
from tests.service.dialects.openai.asking import PATH
from tests.service.sample_images import in_base64, packed

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
FIELDS = (*ImagesRequest.model_fields, *OWN, *ALIASES, *SAMPLERS, "aspect_ratio", "aspectRatio")
SAMPLE = ("prompt", "size", "n", "stream", "seed", "lora", "controls", "sampler_name")


def check(response: Any) -> None:
    assert 400 <= response.status_code < 500, response.text
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert len(response.content) < 2000


@pytest.mark.parametrize("path", [PATH, EDITS, VARIATIONS])
@pytest.mark.parametrize("body", JSON_BODIES, ids=range(len(JSON_BODIES)))
def test_broken_json(openai: Running, path: str, body: bytes) -> None:
    check(openai.client.post(path, content=body, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize("path", [PATH, EDITS, VARIATIONS])
@pytest.mark.parametrize("body", FORMS, ids=range(len(FORMS)))
def test_broken_forms(openai: Running, path: str, body: bytes) -> None:
    check(openai.client.post(path, content=body, headers={"Content-Type": FORM}))
    check(openai.client.post(path, content=body, headers={"Content-Type": "multipart/form-data"}))


def test_nested_references(openai: Running) -> None:
    body = b'{"prompt": "x", "images": ' + b'{"image_url": ' * 400 + b"1" + b"}" * 400 + b"}"
    check(openai.client.post(EDITS, content=body))


def test_bombs(openai: Running) -> None:
    bombs = [
        packed(Image.new("1", (20_000, 20_000))),
        packed(Image.new("RGB", (4000, 4000)), "WEBP"),
        IMAGE[:-60],
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"GIF89a" + bytes(50),
    ]
    for data in bombs:
        uri = f"data:image/png;base64,{in_base64(data)}"
        for field in ("images", "mask"):
            body = {"prompt": "x", "images": [in_base64(IMAGE)], field: [uri]}
            body = body if field == "images" else {**body, "mask": uri}
            check(openai.client.post(EDITS, json=body))
    check(openai.client.post(PATH, json={"prompt": "x" * MAX_BODY_BYTES}))


@pytest.mark.parametrize("field", sampled(FIELDS, SAMPLE))
def test_a_wrong_value_of_a_field_is_refused_or_ignored(openai: Running, field: str) -> None:
    for path, rest in ((PATH, {}), (EDITS, {"image": in_base64(IMAGE)})):
        for value in WRONG:
            body = json.dumps({"prompt": "a cat", **rest, field: value})
            response = openai.client.post(path, content=body)
            if response.status_code != 200:
                check(response)


@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.dictionaries(st.sampled_from((*FIELDS, "image", "images", "mask", "markup")), values))
def test_any_fields(openai: Running, fields: dict[str, Any]) -> None:
    for path in (PATH, EDITS, VARIATIONS):
        response = openai.client.post(path, content=json.dumps(fields))
        if response.status_code != 200:
            check(response)


@pytest.mark.parametrize("name", ["%ff", "%00", "..", "a" * 5000, "%2F%2F", "%ED%A0%80"])
def test_names_of_models(openai: Running, name: str) -> None:
    response = openai.client.get(f"/v1/models/{name}")
    assert response.status_code in (200, 404)  # ".." is the list
