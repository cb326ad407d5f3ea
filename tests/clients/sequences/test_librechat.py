"""LibreChat: Stable Diffusion, OpenAI's image tools, and DALL-E 3 by a proxy."""

import base64
import json
import re

import httpx

from tests.clients.sequences.front_end import at, bearer, ok, with_userinfo
from tests.clients.stack import SIDE, Stack
from tests.service.sample_images import gradient, opened, packed

FILE_NAME = re.compile(r"img-[\w\d]+\.png|[^/]+\.png")


def test_stable_diffusion(stack: Stack) -> None:
    """The key is in the address. The image is cut at its first comma, so it is raw base64."""
    body = {
        "prompt": "a red heart",
        "negative_prompt": "blue",
        "cfg_scale": 4.5,
        "steps": 22,
        "width": 1024,
        "height": 1024,
    }
    answer = ok(httpx.post(f"{with_userinfo(stack)}/sdapi/v1/txt2img", json=body, timeout=300))
    image = base64.b64decode(answer["images"][0].split(",", 1)[0])
    assert opened(image).size == (1024, 1024)
    info = json.loads(answer["info"])
    assert (info["width"], info["height"]) == (1024, 1024)
    assert f"Seed: {info['seed']}" in info["infotexts"][0]


def test_image_tool_generates(stack: Stack) -> None:
    body = {
        "model": "gpt-image-1",
        "prompt": "a red heart",
        "n": 1,
        "background": "auto",
        "output_format": "webp",
        "output_compression": 80,
        "quality": "auto",
        "size": "auto",
    }
    with at(stack.v1, bearer(stack.key)) as client:
        answer = ok(client.post("images/generations", json=body))
    image = opened(answer["data"][0]["b64_json"])
    assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))


def test_image_tool_edits(stack: Stack) -> None:
    form = {"model": "gpt-image-1", "prompt": "blue", "quality": "auto", "size": "auto"}
    png = packed(gradient(64, 64))
    with at(stack.v1, bearer(stack.key)) as client:
        files = [("image[]", ("image_0.png", png, "image/png"))]
        answer = ok(client.post("images/edits", data=form, files=files))
    assert opened(answer["data"][0]["b64_json"]).size == (64, 64)


def test_image_tool_shows_errors(stack: Stack) -> None:
    """The error's text goes to the language model."""
    body = {"model": "gpt-image-1", "prompt": "x", "background": "transparent"}
    with at(stack.v1, bearer(stack.key)) as client:
        response = client.post("images/generations", json=body)
    assert response.status_code == httpx.codes.BAD_REQUEST
    assert "background" in response.json()["error"]["message"]


def test_dalle3_by_a_proxy(stack: Stack) -> None:
    """A regular expression looks for a file name with `.png` in the URL, which is read without a
    key."""
    body = {
        "model": "dall-e-3",
        "quality": "standard",
        "style": "vivid",
        "size": "1024x1024",
        "prompt": "a red heart",
        "n": 1,
    }
    with at(stack.v1, bearer(stack.key)) as client:
        url = ok(client.post("images/generations", json=body))["data"][0]["url"]
    assert FILE_NAME.search(httpx.URL(url).path)
    assert opened(httpx.get(url, timeout=60).raise_for_status().content).size == (1024, 1024)
