"""Parameters of the tests with clients of OpenAI's API, and images of their answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from PIL import Image

from tests.clients.clients import OPENAI_CLIENTS, Action
from tests.service.sample_images import opened

PROMPT = "a red heart"
SIZE, SIDES = "64x128", (64, 128)


def that(action: Action) -> pytest.MarkDecorator:
    """Run a test with every client that has `action`."""
    clients = [client for client in OPENAI_CLIENTS if action in client.actions]
    return pytest.mark.parametrize("client", clients, ids=[client.name for client in clients])


def images(answer: dict[str, Any]) -> list[Image.Image]:
    return [opened(item["b64_json"]) for item in answer["data"]]


def generated(native: httpx.Client, n: int, seed: int, **params: Any) -> list[Image.Image]:
    """Return the images of the native API."""
    body = {"prompt": PROMPT, "width": SIDES[0], "height": SIDES[1], "n": n, "seed": seed, **params}
    answer = native.post("/v1/txt2img", json=body).raise_for_status().json()
    return [opened(image["base64"]) for image in answer["images"]]
