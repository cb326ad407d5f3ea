"""A service whose model has something of everything, and its answers read."""

import json
from typing import Any

import httpx

from protocol.request.model_card import UpscalerInfo
from protocol.request.tasks import Task
from tests.service.conftest import CARD
from tests.service.sample_images import gradient, in_base64, left_half_white, packed

WEBUI_CARD = CARD.model_copy(
    update={
        "tasks": (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT),
        "samplers": ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "heun"),
        "schedules": ("leading", "linspace", "karras", "sgm_uniform", "normal"),
        "loras": ("detail",),
        "embeddings": ("easy",),
        "controlnets": ("canny", "depth"),
        "upscalers": (UpscalerInfo(name="4x-net", scale=4),),
        "refiners": ("tiny-refiner",),
    }
)
SHA256 = "0123456789abcdef" * 4
HASHED_CARD = WEBUI_CARD.model_copy(update={"sha256": SHA256})
IMAGE = in_base64(packed(gradient()))
MASK = in_base64(packed(left_half_white()))
DATA_URI = "data:image/png;base64,"


def post(client: httpx.Client, path: str, **fields: Any) -> Any:
    """Return the answer of a route that must succeed."""
    response = client.post(path if path.startswith("/") else f"/sdapi/v1/{path}", json=fields)
    assert response.status_code == 200, response.text
    return response.json()


def get(client: httpx.Client, path: str) -> Any:
    """Return the answer of a route that must succeed."""
    response = client.get(path if path.startswith("/") else f"/sdapi/v1/{path}")
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, path: str, **fields: Any) -> tuple[int, str]:
    """Return status and detail of an answer that must be an error in AUTOMATIC1111's form."""
    response = client.post(f"/sdapi/v1/{path}", json=fields)
    body = response.json()
    assert body.keys() == {"error", "detail", "body", "errors"}, response.text
    return response.status_code, body["detail"]


def info(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer["info"])
    return found
