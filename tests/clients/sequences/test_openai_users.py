"""Other front ends of OpenAI's API: AnythingLLM, LobeChat, n8n, Nextcloud."""

import re

import httpx
import pytest
from PIL import Image

from tests.clients.sequences.front_end import TEXT, at, basic, bearer, ok, said_to_be
from tests.clients.stack import MODEL, Stack
from tests.service.sample_images import gradient, opened, packed

PNG = packed(gradient(64, 64))
MASK = packed(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))


def test_anythingllm(stack: Stack) -> None:
    """Several images are all named `image`; an answer is read as b64_json, else as a URL."""
    with at(stack.v1, bearer(stack.key)) as client:
        body = {"model": MODEL, "prompt": "a red heart", "size": "1024x1024", "n": 1}
        answer = ok(client.post("images/generations", json=body))
        assert opened(answer["data"][0]["b64_json"]).size == (1024, 1024)
        form = {"model": MODEL, "prompt": "blue", "size": "128x64", "n": "1"}
        files = [("image", (f"{i}.png", PNG, "image/png")) for i in range(2)]
        answer = ok(client.post("images/edits", data=form, files=files))
        assert opened(answer["data"][0]["b64_json"]).size == (128, 64)


def test_anythingllm_shows_errors(stack: Stack) -> None:
    with at(stack.v1, bearer("wrong")) as client:
        response = client.post("images/generations", json={"prompt": "x", "model": MODEL})
    assert response.status_code == httpx.codes.UNAUTHORIZED
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_lobechat(stack: Stack) -> None:
    """It spreads its own parameters over the body, null for those that are not set."""
    with at(stack.v1, bearer(stack.key)) as client:
        models = ok(client.get("models"))["data"]
        assert MODEL in [model["id"] for model in models]
        body = {
            "model": MODEL,
            "n": 1,
            "prompt": "a red heart",
            "seed": 11,
            "steps": 3,
            "cfg": 4,
            "width": 64,
            "height": 128,
            "aspectRatio": None,
            "imageUrl": None,
            "imageUrls": [],
        }
        first, second = (ok(client.post("images/generations", json=body)) for _ in range(2))
        assert first["data"][0]["b64_json"] == second["data"][0]["b64_json"]
        assert opened(first["data"][0]["b64_json"]).size == (64, 128)
        form = {"model": MODEL, "prompt": "blue", "n": "1", "input_fidelity": "high", "seed": "3"}
        answer = ok(
            client.post("images/edits", data=form, files={"image": ("image.png", PNG, "image/png")})
        )
        assert opened(answer["data"][0]["b64_json"]).size == (64, 64)


def test_lobechat_asks_for_an_aspect(stack: Stack) -> None:
    body = {"model": MODEL, "n": 1, "prompt": "x", "aspectRatio": "2:1", "steps": 2}
    with at(stack.v1, bearer(stack.key)) as client:
        answer = ok(client.post("images/generations", **said_to_be(TEXT, body)))
    width, height = opened(answer["data"][0]["b64_json"]).size
    assert width == 2 * height


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
def test_n8n(stack: Stack, response_format: str) -> None:
    with at(stack.v1, bearer(stack.key)) as client:
        assert client.get("models").is_success  # its test of a credential
        body = {
            "prompt": "a red heart",
            "model": "dall-e-2",
            "response_format": response_format,
            "n": 1,
            "size": "256x256",
        }
        (item,) = ok(client.post("images/generations", json=body))["data"]
        assert item.keys() & {"b64_json", "url"} == {response_format}
        form = {"prompt": "blue", "model": "gpt-image-1", "n": "1", "size": "64x64"}
        files = {"image[]": ("data.png", PNG, "image/png"), "mask": ("mask.png", MASK, "image/png")}
        answer = ok(client.post("images/edits", data=form, files=files))
        assert opened(answer["data"][0]["b64_json"]).size == (64, 64)


@pytest.mark.parametrize("login", ["bearer", "basic"])
def test_nextcloud(stack: Stack, login: str) -> None:
    """The list must have an id; the model may be the word Default."""
    headers = bearer(stack.key) if login == "bearer" else basic(f"user:{stack.key}")
    with at(stack.v1, headers) as client:
        models = ok(client.get("models"))["data"]
        assert models[0]["id"]
        size = "256x256"
        assert re.fullmatch(r"\d+x\d+", size)
        body = {"prompt": "a red heart", "size": size, "n": 1, "model": "Default"}
        (item,) = ok(client.post("images/generations", json=body))["data"]
        assert opened(item["b64_json"]).size == (256, 256)
        refused = client.post("images/generations", json={**body, "size": "1x1"})
        assert refused.json()["error"]["message"]
