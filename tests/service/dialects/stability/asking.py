"""Requests to Stability's routes, and the same requests to the native API."""

from typing import Any

import httpx

from protocol.request.model_card import UpscalerInfo
from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from tests.service.conftest import CARD, Running

MODEL_CARD = CARD.model_copy(
    update={
        "tasks": (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT, Task.OUTPAINT),
        "samplers": ("ddim", "euler", "euler_ancestral", "dpm2"),
        "loras": ("pixel-art",),
        "upscalers": (UpscalerInfo(name="esrgan", scale=4),),
    }
)
V1, V2 = "/v1/generation/tiny", "/v2beta/stable-image"
JSON = {"Accept": "application/json"}


def v1(service: Running, route: str, **fields: object) -> httpx.Response:
    """Post fields as JSON to a route of version 1."""
    fields = {"text_prompts": [{"text": "a cat"}], **fields}
    return service.client.post(f"{V1}/{route}", json=fields)


def v2(service: Running, route: str, **parts: object) -> httpx.Response:
    """Post a form to a route of version 2; bytes are files. The answer is JSON."""
    files = {name: ("a.png", part) for name, part in parts.items() if isinstance(part, bytes)}
    data = {name: part for name, part in parts.items() if not isinstance(part, bytes)}
    files = files or {"none": ("", b"")}  # as Stability's own samples do, so that it is a form
    return service.client.post(f"{V2}/{route}", data=data, files=files, headers=JSON)


def native(service: Running, task: str, **fields: object) -> tuple[str, GenerationRequest]:
    """Return the first image of the native API in base64, and the request that the worker got."""
    response = service.client.post(f"/v1/{task}", json=fields).raise_for_status()
    return response.json()["images"][0]["base64"], service.worker.seen[-1]


def check_error(response: httpx.Response, status: int, name: str) -> str:
    """Check an error in the form of its version, and return what it says."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert body["name"] == name
    assert body["id"] == response.headers["x-request-id"]
    if response.request.url.path.startswith("/v2beta"):
        assert body.keys() == {"id", "name", "errors"}
        [said] = body["errors"]
    else:
        assert body.keys() == {"id", "name", "message"}
        said = body["message"]
    assert isinstance(said, str)
    return said
