"""Inpainting requests to a service whose fake worker inpaints in red, and their results."""

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.service.conftest import Running
from tests.service.sample_images import in_base64, opened, packed

Pixels = NDArray[np.uint8]


def post(service: Running, task: str, **fields: object) -> httpx.Response:
    return service.client.post(f"/v1/{task}", json={"prompt": "x", **fields})


def result_of(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    [image] = response.json()["images"]
    found = opened(image["base64"])
    assert found.size == (image["width"], image["height"])
    return found


def sent(pixels: Pixels) -> str:
    return in_base64(packed(Image.fromarray(pixels)))


def square(width: int, height: int, left: int, top: int, side: int) -> Pixels:
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def red(count: int) -> Pixels:
    return np.tile(np.array([255, 0, 0], np.uint8), (count, 1))
