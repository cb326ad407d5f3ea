"""Hostile requests: each gets a 4xx in fal's form, and the service goes on."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.dialects.diffusion_fields import ALIASES, OWN, SAMPLERS
from tests.service.conftest import MAX_BODY_BYTES, Running
from tests.service.dialects.fal.asking import QUEUE, RUN
from tests.service.dialects.hostile_bodies import JSON_BODIES, WRONG, sampled, values
from tests.service.sample_images import gradient, in_base64, packed

IMAGE = in_base64(packed(gradient(64, 48)))
FAL_FIELDS = ("prompt", "image_size", "num_images", "image_url", "image_urls", "mask_url")
FIELDS = (*FAL_FIELDS, "sync_mode", "output_format", *OWN, *ALIASES, *SAMPLERS)
SAMPLE = (*FAL_FIELDS, "sync_mode", "loras", "seed")


def check(response: Any) -> None:
    assert 400 <= response.status_code < 500, response.text
    body = response.json()
    assert body.keys() == {"detail", "message"}
    for one in body["detail"] if isinstance(body["detail"], list) else ():
        assert all(isinstance(part, str) for part in (*one["loc"], one["msg"], one["type"]))
    assert len(response.content) < 4000


@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream", QUEUE, "/api/fal/proxy"])
@pytest.mark.parametrize("body", JSON_BODIES, ids=range(len(JSON_BODIES)))
def test_broken_bodies(fal: Running, path: str, body: bytes) -> None:
    headers = {"x-fal-target-url": "https://fal.run/someone/tiny"}
    check(fal.client.post(path, content=body, headers=headers))


def test_bombs(fal: Running) -> None:
    bombs = [
        packed(Image.new("1", (20_000, 20_000))),
        packed(Image.new("RGB", (4000, 4000)), "WEBP"),
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"GIF89a" + bytes(50),
    ]
    for data in bombs:
        uri = f"data:image/png;base64,{in_base64(data)}"
        for body in (
            {"image_url": uri},
            {"image_urls": [uri]},
            {"image_url": IMAGE, "mask_url": uri},
        ):
            check(fal.client.post(RUN, json={"prompt": "x", **body}))
    check(fal.client.post(RUN, json={"prompt": "x" * MAX_BODY_BYTES}))


@pytest.mark.parametrize("field", sampled(FIELDS, SAMPLE))
def test_a_wrong_value_of_a_field_is_refused_or_ignored(fal: Running, field: str) -> None:
    for rest in ({}, {"image_url": IMAGE}):
        for value in WRONG:
            body = json.dumps({"prompt": "a cat", **rest, field: value})
            response = fal.client.post(RUN, content=body)
            if response.status_code != 200:
                check(response)


@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), values | st.just(IMAGE)))
def test_any_fields(fal: Running, fields: dict[str, Any]) -> None:
    response = fal.client.post(RUN, content=json.dumps(fields))
    if response.status_code != 200:
        check(response)


@pytest.mark.parametrize(
    "webhook", ["", "x", "ftp://example.org", "http://", "http://a/" + "b" * 9000]
)
def test_wrong_webhooks(fal: Running, webhook: str) -> None:
    response = fal.client.post(QUEUE, params={"fal_webhook": webhook}, json={"prompt": "x"})
    check(response)
    assert response.json()["detail"][0]["loc"] == ["body", "fal_webhook"]


@pytest.mark.parametrize("name", ["%ff", "%00", "..", "a" * 5000, "%2F%2F", "%ED%A0%80"])
def test_names_of_apps(fal: Running, name: str) -> None:
    for prefix in ("/fal/run/someone", "/fal/queue/someone", RUN, "/fal/run"):
        response = fal.client.post(f"{prefix}/{name}", json={"prompt": "x"})
        assert response.status_code in (404, 405, 422)
