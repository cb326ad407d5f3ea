"""Inpainting over HTTP with a real worker: what is not marked comes back bit for bit."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

BLUR = 3
BLURRED = int(2.5 * BLUR + 0.5)  # pixels from the mask up to which it reaches
COMMON = {"prompt": "the red cat", "steps": 3, "sampler": "euler", "seed": 9, "strength": 0.9}
MASKED = {"inpaint_area": "masked", "mask_padding": 8}
Pixels = NDArray[np.uint8]


def noise(width: int, height: int, channels: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def disc(width: int, height: int, x: int, y: int, radius: int) -> Pixels:
    rows, columns = np.ogrid[:height, :width]
    inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return np.where(inside, 255, 0).astype(np.uint8)


def sent(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def inpainted(client: httpx.Client, **fields: Any) -> Pixels:
    response = client.post("/v1/inpaint", json=COMMON | fields)
    assert response.status_code == 200, response.text
    [image] = response.json()["images"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["base64"]))))


@pytest.mark.parametrize(
    ("width", "height", "channels", "fields"),
    [
        (61, 45, 4, {}),
        (61, 45, 4, MASKED),
        (1500, 1000, 3, MASKED),  # far larger than the model can generate
        (48, 32, 4, {"mask_mode": "soft", "masked_content": "fill"}),
    ],
    ids=["whole, own size", "masked, own size", "masked, large", "soft, filled"],
)
def test_pixels_outside_the_blurred_mask_are_kept(
    client: httpx.Client, width: int, height: int, channels: int, fields: dict[str, Any]
) -> None:
    image = noise(width, height, channels)
    mask = disc(width, height, width // 2, height // 2, 9)
    both = {"image": sent(image), "mask": sent(mask), "mask_blur": BLUR}
    found = inpainted(client, **both, **fields)
    assert found.shape == image.shape
    kept = ndimage.maximum_filter(mask, 2 * BLURRED + 1) == 0
    assert 0.1 < kept.mean() < 1
    assert np.array_equal(found[kept], image[kept])
    assert np.array_equal(found[..., 3:], image[..., 3:])
    assert (found[mask > 0] != image[mask > 0]).any(axis=-1).mean() > 0.9
    other = inpainted(client, **both, **fields, prompt="a the a the a", guidance_scale=9)
    assert not np.array_equal(other, found)


def test_transparency_is_the_mask(client: httpx.Client) -> None:
    image = noise(50, 40, 4)
    image[..., 3] = 255 - disc(50, 40, 30, 20, 8)
    found = inpainted(client, image=sent(image), mask_source="alpha", mask_blur=BLUR, **MASKED)
    assert found.shape == (40, 50, 3)  # opaque
    kept = ndimage.minimum_filter(image[..., 3], 2 * BLURRED + 1) == 255
    assert np.array_equal(found[kept], image[kept][:, :3])
    assert not np.array_equal(found[~kept], image[~kept][:, :3])
