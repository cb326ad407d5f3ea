"""Hostile requests: each gets a 4xx in Hugging Face's form, and the service goes on."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.dialects.diffusion_fields import ALIASES, OWN, SAMPLERS
from tests.service.conftest import MAX_BODY_BYTES, Running
from tests.service.dialects.hostile_bodies import JSON_BODIES, WRONG, sampled, values
from tests.service.sample_images import gradient, in_base64, packed

PATH = "/models/someone/tiny"
IMAGE = in_base64(packed(gradient(64, 48)))
FIELDS = (*OWN, *ALIASES, *SAMPLERS, "prompt", "mask", "target_size", "output_format", "quality")
SAMPLE = ("prompt", "mask", "target_size", "seed", "controls")


def check(response: Any) -> None:
    assert 400 <= response.status_code < 500, response.text
    assert response.json().keys() == {"error"}
    assert isinstance(response.json()["error"], str)
    assert len(response.content) < 2000


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "image/png"])
@pytest.mark.parametrize("body", [b"", *JSON_BODIES], ids=range(1 + len(JSON_BODIES)))
def test_broken_bodies(hub: Running, content_type: str, body: bytes) -> None:
    check(hub.client.post(PATH, content=body, headers={"Content-Type": content_type}))


def test_bombs(hub: Running) -> None:
    bombs = [
        packed(Image.new("1", (20_000, 20_000))),
        packed(Image.new("RGB", (4000, 4000)), "WEBP"),
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"RIFF" + bytes(50),
        b"GIF89a" + bytes(50),
    ]
    for data in bombs:
        check(hub.client.post(PATH, content=data))
        mask = {"prompt": "x", "mask": in_base64(data)}
        for body in (
            {"inputs": in_base64(data), "parameters": {"prompt": "x"}},
            {"inputs": IMAGE, "parameters": mask},
        ):
            check(hub.client.post(PATH, json=body))
    check(hub.client.post(PATH, json={"inputs": "x" * MAX_BODY_BYTES}))


@pytest.mark.parametrize("field", ["inputs", "parameters", "options"])
def test_wrong_members(hub: Running, field: str) -> None:
    for value in WRONG:
        response = hub.client.post(PATH, content=json.dumps({"inputs": "a cat", field: value}))
        if response.status_code != 200:
            check(response)


@pytest.mark.parametrize("field", sampled(FIELDS, SAMPLE))
def test_a_wrong_parameter_is_refused_or_ignored(hub: Running, field: str) -> None:
    for inputs in ("a cat", IMAGE):
        for value in WRONG:
            body = json.dumps({"inputs": inputs, "parameters": {field: value}})
            response = hub.client.post(PATH, content=body)
            if response.status_code != 200:
                check(response)


@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(values | st.just(IMAGE), st.dictionaries(st.sampled_from(FIELDS), values) | values)
def test_any_parameters(hub: Running, inputs: object, parameters: object) -> None:
    body = json.dumps({"inputs": inputs, "parameters": parameters})
    response = hub.client.post(PATH, content=body)
    if response.status_code != 200:
        check(response)


@pytest.mark.parametrize("name", ["%ff", "%00", "..", "a" * 5000, "%2F%2F", "%ED%A0%80", "a/b/c"])
def test_names_of_models(hub: Running, name: str) -> None:
    for prefix in ("/models", "/hf-inference/models", "/models/someone"):
        response = hub.client.post(f"{prefix}/{name}", json={"inputs": "a cat"})
        assert response.status_code in (404, 405, 422)
