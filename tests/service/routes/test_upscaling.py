"""Images that are scaled up keep their size until a worker has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.conftest import CARD, Running, running
from tests.service.sample_images import gradient, in_base64, opened, packed

UPSCALE = ("upscale", {"upscaler": "lanczos", "scale": 1.5})
TILES = ("img2img", {"prompt": "a cat", "tile_size": 64, "scale": 1.5})


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD) as service:
        yield service


def sent(width: int, height: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {"image": in_base64(packed(gradient(width, height))), **fields}


@pytest.mark.parametrize(("route", "fields"), [UPSCALE, TILES])
def test_image_may_have_a_size_that_the_model_cannot_generate(
    service: Running, route: str, fields: dict[str, Any]
) -> None:
    for size in ((320, 24), (42, 50)):
        response = service.client.post(f"/v1/{route}", json=sent(*size, fields))
        assert response.status_code == 200, response.text
        request = service.worker.seen[-1]
        assert request.image_key is not None
        assert opened(in_base64(service.store.get(request.image_key))).size == size
        assert abs(request.width - 1.5 * size[0]) <= 4


@pytest.mark.parametrize(("route", "fields"), [UPSCALE, TILES])
def test_image_that_is_too_wide_is_refused(
    service: Running, route: str, fields: dict[str, Any]
) -> None:
    for scale in (1.5, 1):
        body = sent(20_000, 24, {**fields, "scale": scale})
        response = service.client.post(f"/v1/{route}", json=body)
        assert response.status_code == 422, response.text
        assert response.json()["field"] in ("image", "scale")
        assert response.json()["bound"]
