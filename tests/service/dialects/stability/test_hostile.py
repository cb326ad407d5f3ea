"""Hostile requests: each gets a 4xx in Stability's form, and the service goes on."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.dialects.stability.v1_requests import V1ImageToImage, V1Masking, V1Upscale
from service.dialects.stability.v2_requests import V2Generate, V2Inpaint, V2Outpaint, V2Upscale
from tests.service.conftest import Running
from tests.service.dialects.hostile_bodies import (
    END,
    FORM,
    FORMS,
    IMAGE,
    JSON_BODIES,
    PART,
    WRONG,
    sampled,
    values,
)
from tests.service.dialects.stability.asking import V1, V2
from tests.service.sample_images import in_base64, packed

TEXT, MASKED, LARGER = (
    f"{V1}/text-to-image",
    f"{V1}/image-to-image/masking",
    "/v1/generation/lanczos/image-to-image/upscale",
)
CORE, INPAINT, OUTPAINT, CREATIVE = (
    f"{V2}/{route}"
    for route in ("generate/core", "edit/inpaint", "edit/outpaint", "upscale/creative")
)
PATHS = (TEXT, MASKED, LARGER, CORE, INPAINT, OUTPAINT, CREATIVE)
FIELDS = sorted(
    {
        name
        for kind in (V1ImageToImage, V1Masking, V1Upscale, V2Generate, V2Inpaint, V2Outpaint)
        for name in (*kind.model_fields, *V2Upscale.model_fields)
    }
)
SAMPLE = ("text_prompts", "mask_image", "width", "model", "grow_mask", "seed")
FORMS_HERE = [
    *FORMS,
    PART % (b"text_prompts[0][text]", b'; filename="a"', b"x") + END,
    PART % (b"text_prompts[99999999999][text]", b"", b"x") + END,
    PART % (b"text_prompts[0][weight]", b"", b"9" * 5000) + END,
    PART % (b"text_prompts", b"", b"[" * 5000) + END,
    PART % (b"text_prompts", b"", b'{"text": "x"}') + END,
    (PART % (b"text_prompts[%d][text]", b"", b"x")) * 60 + END,
]
REST = {
    **dict.fromkeys(("init_image", "image"), in_base64(IMAGE)),
    **dict.fromkeys(("mask_image", "mask"), in_base64(IMAGE)),
    "mask_source": "MASK_IMAGE_WHITE",
    "text_prompts": [{"text": "a cat"}],
    "prompt": "a cat",
    "left": 8,
}


def check(response: httpx.Response) -> None:
    assert 400 <= response.status_code < 500, response.text
    said = "errors" if response.request.url.path.startswith("/v2beta") else "message"
    assert response.json().keys() == {"id", "name", said}
    assert len(response.content) < 2000


@pytest.mark.parametrize("path", PATHS)
def test_broken_bodies(stability: Running, path: str) -> None:
    for body in JSON_BODIES:
        check(stability.client.post(path, content=body, headers={"Content-Type": "text/plain"}))
    for body in FORMS_HERE:
        response = stability.client.post(path, content=body, headers={"Content-Type": FORM})
        if path != CORE or b"prompt" not in body:  # a prompt is all that it needs
            check(response)


def test_bombs(stability: Running) -> None:
    bombs = [
        packed(Image.new("1", (20_000, 20_000))),
        packed(Image.new("RGB", (4000, 4000)), "WEBP"),
        IMAGE[:-60],
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"GIF89a" + bytes(50),
    ]
    for data in bombs:
        for path, field in (
            (MASKED, "init_image"),
            (MASKED, "mask_image"),
            (LARGER, "image"),
            (INPAINT, "image"),
            (INPAINT, "mask"),
            (OUTPAINT, "image"),
            (CREATIVE, "image"),
        ):
            rest = {name: part for name, part in REST.items() if path != LARGER or name == "image"}
            check(stability.client.post(path, json={**rest, field: in_base64(data)}))
            check(stability.client.post(path, json={**rest, field: "A" * 100_001 + "!"}))
    for path in PATHS:
        check(stability.client.post(path, json={"prompt": "x" * 2**23, "text_prompts": []}))
        many = [{"text": "x"}] * 100_000
        check(stability.client.post(path, json={"text_prompts": many, "image": "", "prompt": 1}))


@pytest.mark.parametrize("field", sampled(FIELDS, SAMPLE))
def test_a_wrong_value_of_a_field_is_refused_or_ignored(stability: Running, field: str) -> None:
    for path in (TEXT, MASKED, CORE, OUTPAINT):
        for value in WRONG:
            rest = {
                name: part for name, part in REST.items() if "image" not in path or path != CORE
            }
            response = stability.client.post(path, content=json.dumps({**rest, field: value}))
            if response.status_code != 200:
                check(response)


@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_any_fields(stability: Running, fields: dict[str, Any]) -> None:
    for path in PATHS:
        response = stability.client.post(path, content=json.dumps(fields))
        if response.status_code != 200:
            check(response)


@pytest.mark.parametrize("name", ["%ff", "%00", "a" * 5000, "%2F%2F", "%ED%A0%80", "{x}"])
def test_names_of_engines(stability: Running, name: str) -> None:
    check(stability.client.post(f"/v1/generation/{name}/text-to-image", json=REST))
