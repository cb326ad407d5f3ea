"""Outpainting over HTTP, with a fake worker whose border is red."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.service.conftest import ABLE, Running, running
from tests.service.fake_worker import RED
from tests.service.sample_images import gradient, in_base64, opened, packed
from tests.support.redis_server import RedisServer

IMAGE = in_base64(packed(gradient(60, 40)))


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, ABLE) as service:
        yield service


def post(service: Running, **fields: object) -> httpx.Response:
    return service.client.post("/v1/outpaint", json={"prompt": "x", "image": IMAGE, **fields})


def result_of(response: httpx.Response) -> NDArray[np.uint8]:
    assert response.status_code == 200, response.text
    [image] = response.json()["images"]
    found = opened(image["base64"])
    assert found.size == (image["width"], image["height"])
    return np.asarray(found)


def test_result_has_the_size_asked_for(service: Running) -> None:
    found = result_of(post(service, left=5, top=3, right=70))
    assert found.shape == (43, 135, 3)
    assert np.array_equal(found[3:, 5:65], np.asarray(gradient(60, 40)))
    assert (found[:, 65:] == RED).all()
    asked = service.worker.seen[-1].outpainting
    assert asked is not None
    assert len(asked.rounds) > 1


def test_size_and_anchor_are_another_way_to_ask(service: Running) -> None:
    result_of(post(service, width=100, height=61, anchor="bottom-right"))
    by_size = service.worker.seen[-1]
    result_of(post(service, left=40, top=21))
    assert service.worker.seen[-1].outpainting == by_size.outpainting


def test_transparent_image_comes_back_transparent(service: Running) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 4), np.uint8)
    sent = in_base64(packed(Image.fromarray(image)))
    found = result_of(post(service, image=sent, right=8, edge_blend=3))
    assert np.array_equal(found[:, :57], image[:, :57])
    assert (found[:, 57:, 3] == 255).all()
    key = service.worker.seen[-1].image_key
    assert key is not None
    assert np.array_equal(np.asarray(opened(service.store.get(key))), image)


def test_opaque_image_with_alpha_is_stored_without_it(service: Running) -> None:
    image = packed(gradient(60, 40).convert("RGBA"))
    assert result_of(post(service, image=in_base64(image), right=8)).shape == (40, 68, 3)


def test_form_has_the_same_fields(service: Running) -> None:
    files: dict[str, Any] = {
        "prompt": (None, "x"),
        "image": ("a.png", packed(gradient(60, 40))),
        "left": (None, ""),
        "width": (None, "80"),
        "anchor": (None, "left"),
    }
    assert service.client.post("/v1/outpaint", files=files).status_code == 200
    assert service.worker.seen[-1].width == 80


WRONG = [
    ({}, "left", None, "above 0"),
    ({"left": 0}, "left", 0, "above 0"),
    ({"left": -1}, "left", -1, "at least 0"),
    ({"width": 20_000}, "width", 20_000, "at most 16384"),
    ({"width": 59}, "width", 59, "at least 60"),
    ({"width": 90, "left": 30}, "left", 30, "absent"),
    ({"left": 10, "anchor": "top"}, "anchor", "top", "absent"),
    ({"left": 10, "mask_blur": 3}, "mask_blur", 3, "absent for outpaint"),
    ({"left": 10, "controls": [{"model": "canny"}]}, "controls", "given", "absent for outpaint"),
    ({"left": 10, "image": None}, "image", "null", None),
    ({"left": 10, "prompt": None}, "prompt", None, None),
]


@pytest.mark.parametrize(("fields", "field", "value", "bound"), WRONG)
def test_wrong_requests_are_refused(
    service: Running, fields: dict[str, object], field: str, value: object, bound: str | None
) -> None:
    response = post(service, **fields)
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, field), problem
    assert problem.get("value") == value
    assert bound is None or problem["bound"].startswith(bound), problem
