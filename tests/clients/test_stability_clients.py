"""Clients of Stability's API: litellm's provider, unpatched, and its routes as its samples call
them.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients.clients import STABILITY_CLIENTS, Action, Client
from tests.clients.conftest import Ask
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL, SIDE, Stack
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

PROMPT = "a red heart"
SMALL: dict[str, Any] = {
    "text_prompts": [{"text": PROMPT, "weight": 1}, {"text": "blurry", "weight": -0.5}],
    "width": 64,
    "height": 128,
    "steps": 3,
    "seed": 7,
    "cfg_scale": 7,
    "sampler": "K_EULER",
    "clip_guidance_preset": "FAST_BLUE",
}
IMAGE, MASK = packed(gradient(64, 64)), packed(left_half_white(64, 64))

litellm = pytest.mark.parametrize("client", STABILITY_CLIENTS, ids=lambda client: client.name)


@litellm
def test_litellm_generates(client: Client, ask: Ask, native: httpx.Client) -> None:
    """The image is that of the native API for the same seed."""
    answer = ask("generate", model="sd3.5-large", prompt=PROMPT, size="1024x1024", seed=7)
    (item,) = answer["data"]
    body = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "seed": 7}
    found = native.post("/v1/txt2img", json=body).raise_for_status().json()
    assert same(opened(item["b64_json"]), opened(found["images"][0]["base64"]))


@litellm
def test_litellm_edits(client: Client, ask: Ask) -> None:
    files = {"image": in_base64(IMAGE), "mask": in_base64(MASK)}
    for model, prompt in (("inpaint", {"prompt": PROMPT}), ("erase", {"prompt": "nothing"})):
        answer = ask("edit", model=model, **files, **prompt)
        after = np.asarray(opened(answer["data"][0]["b64_json"]).convert("RGB"))
        before = np.asarray(gradient(64, 64))
        assert np.array_equal(before[:, 48:], after[:, 48:])
        assert not np.array_equal(before[:, :32], after[:, :32])


@litellm
def test_litellm_meets_errors(client: Client, ask: Ask) -> None:
    assert Action.ERROR in client.actions
    with pytest.raises(ClientError) as raised:
        ask("generate", model="sd3", prompt=PROMPT, style_preset="anime")
    assert client.errors["bad"] in raised.value.kinds
    assert "style_preset" in raised.value.message
    with pytest.raises(ClientError) as raised:
        ask("generate", model="sd3", prompt=PROMPT, api_key="sk-not-a-key")
    assert client.errors["refused"] in raised.value.kinds
    assert "unauthorized" in raised.value.message
    assert "sk-not-a-key" not in raised.value.message


def test_version_1(native: httpx.Client) -> None:
    """As the samples in Stability's repository `rest-api-support` call it."""
    engines = native.get("/v1/engines/list").raise_for_status().json()
    assert engines[0]["id"] == MODEL
    assert native.get("/v1/user/balance").raise_for_status().json()["credits"] > 0
    path = "/v1/generation/stable-diffusion-v1-6/text-to-image"
    answer = native.post(path, json=SMALL).raise_for_status().json()
    (artifact,) = answer["artifacts"]
    body = {
        "prompt": PROMPT,
        "negative_prompt": "(blurry:0.5)",
        "width": 64,
        "height": 128,
        "steps": 3,
        "seed": 7,
        "guidance_scale": 7,
        "sampler": "euler",
    }
    found = native.post("/v1/txt2img", json=body).raise_for_status().json()
    image = opened(found["images"][0]["base64"])
    assert same(opened(artifact["base64"]), image)
    assert (artifact["seed"], artifact["finishReason"]) == (7, "SUCCESS")
    file = native.post(path, json=SMALL, headers={"Accept": "image/png"}).raise_for_status()
    assert same(opened(file.content), image)
    assert file.headers["seed"] == "7"


def test_version_1_with_forms(native: httpx.Client) -> None:
    path = "/v1/generation/stable-diffusion-v1-6/image-to-image"
    form = {
        "image_strength": "0.35",
        "init_image_mode": "IMAGE_STRENGTH",
        "text_prompts[0][text]": PROMPT,
        "cfg_scale": "7",
        "samples": "2",
        "steps": "4",
        "seed": "7",
    }
    files = {"init_image": ("init.png", IMAGE)}
    artifacts = native.post(path, data=form, files=files).raise_for_status().json()["artifacts"]
    body = {
        "prompt": PROMPT,
        "image": in_base64(IMAGE),
        "strength": 0.65,
        "n": 2,
        "steps": 4,
        "seed": 7,
        "guidance_scale": 7,
    }
    found = native.post("/v1/img2img", json=body).raise_for_status().json()["images"]
    for artifact, image in zip(artifacts, found, strict=True):
        assert same(opened(artifact["base64"]), opened(image["base64"]))
    masked = {"mask_source": "MASK_IMAGE_WHITE", "text_prompts[0][text]": PROMPT}
    files |= {"mask_image": ("mask.png", MASK)}
    response = native.post(f"{path}/masking", data=masked, files=files).raise_for_status()
    after = np.asarray(opened(response.json()["artifacts"][0]["base64"]).convert("RGB"))
    assert np.array_equal(np.asarray(gradient(64, 64))[:, 48:], after[:, 48:])
    response = native.post(
        "/v1/generation/lanczos/image-to-image/upscale",
        data={"width": "160"},
        files={"image": ("a.png", IMAGE)},
        headers={"Accept": "image/png"},
    )
    assert opened(response.raise_for_status().content).size == (160, 160)


def test_version_2(native: httpx.Client) -> None:
    none, images = {"none": ""}, {"image": ("a.png", IMAGE)}
    accept = {"accept": "image/*"}
    form = {"prompt": PROMPT, "output_format": "jpeg", "aspect_ratio": "16:9", "seed": "7"}
    path = "/v2beta/stable-image"
    response = native.post(f"{path}/generate/core", data=form, files=none, headers=accept)
    image = opened(response.raise_for_status().content)
    assert image.format == "JPEG"
    assert image.width / image.height == pytest.approx(16 / 9, rel=0.1)
    assert response.headers["seed"] == "7"
    form = {"left": "16", "down": "8", "prompt": PROMPT}
    response = native.post(f"{path}/edit/outpaint", data=form, files=images, headers=accept)
    assert opened(response.raise_for_status().content).size == (80, 72)


def test_results_by_their_id(native: httpx.Client, stack: Stack) -> None:
    """A job of any route, which the other key cannot see."""
    body = {"prompt": PROMPT, "width": 64, "height": 64, "seed": 7}
    started = native.post("/v1/txt2img", json=body, headers={"Prefer": "respond-async"})
    path = f"/v2beta/results/{started.raise_for_status().json()['id']}"
    other = {"Authorization": f"Bearer {stack.other_key}"}
    until = time.monotonic() + 240
    while (response := native.get(path, headers={"accept": "*/*"})).status_code == 202:
        assert response.json()["status"] == "in-progress"
        assert time.monotonic() < until
        time.sleep(0.1)
    found = native.post("/v1/txt2img", json=body).raise_for_status().json()
    assert same(opened(response.content), opened(found["images"][0]["base64"]))
    refused = native.get(path, headers=other)
    assert (refused.status_code, refused.json()["name"]) == (404, "not_found")
