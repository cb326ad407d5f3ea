"""Fields that only models of some kinds read, over HTTP, with a fake worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import ABLE, Running, running
from tests.service.inpainting import post
from tests.service.sample_images import gradient, in_base64, opened, packed
from tests.support.redis_server import RedisServer

CARD = ABLE.model_copy(
    update={
        "default_image_guidance_scale": 1.5,
        "reads_depth_map": True,
        "default_noise_level": 20,
        "max_noise_level": 350,
    }
)
IMAGE = in_base64(packed(gradient()))
DEPTH = np.random.default_rng(4).integers(0, 256, (48, 80), np.uint8)


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, CARD, max_queue_per_client=1000) as service:
        yield service


@pytest.fixture(scope="module")
def plain(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, ABLE) as service:
        yield service


def depth_map(image: Image.Image | None = None) -> str:
    return in_base64(packed(Image.fromarray(DEPTH) if image is None else image))


def stored_depth(service: Running) -> Image.Image:
    key = service.worker.seen[-1].depth_map_key
    assert key is not None
    return opened(service.store.get(key))


def test_image_guidance_scale_reaches_the_worker(service: Running) -> None:
    fields = {"image": IMAGE, "depth_map": depth_map()}
    assert post(service, "img2img", **fields).status_code == 200
    assert service.worker.seen[-1].image_guidance_scale == 1.5
    assert post(service, "img2img", **fields, image_guidance_scale=2.5).status_code == 200
    assert service.worker.seen[-1].image_guidance_scale == 2.5


def test_noise_level_and_prompt_reach_the_worker(service: Running) -> None:
    body: dict[str, Any] = {"image": IMAGE}
    assert service.client.post("/v1/upscale", json=body).status_code == 200
    assert (service.worker.seen[-1].prompt, service.worker.seen[-1].noise_level) == ("", 20)
    body |= {"prompt": "a white cat", "noise_level": 350}
    assert service.client.post("/v1/upscale", json=body).status_code == 200
    seen = service.worker.seen[-1]
    assert (seen.prompt, seen.noise_level) == ("a white cat", 350)


def test_depth_map_is_resized_and_cut_as_the_image(service: Running) -> None:
    fields = {"image": depth_map(), "depth_map": depth_map()}  # the same pixels in both
    for size in ({"width": 64, "height": 64, "resize_mode": "crop"}, {"width": 64, "height": 32}):
        assert post(service, "img2img", **fields, **size).status_code == 200
        image_key = service.worker.seen[-1].image_key
        assert image_key is not None
        image = opened(service.store.get(image_key))
        assert image.size == (size["width"], size["height"])
        assert np.array_equal(np.asarray(stored_depth(service)), np.asarray(image))


def test_depth_map_of_16_bits_for_an_image_in_tiles(service: Running) -> None:
    deep = depth_map(Image.fromarray(DEPTH.astype(np.uint16) * 257))
    response = post(service, "img2img", image=depth_map(), depth_map=deep, tile_size=64, scale=2)
    assert response.status_code == 200, response.text
    stored = np.asarray(stored_depth(service).convert("L"), int)
    assert np.abs(stored - DEPTH).max() <= 1


def test_depth_map_in_a_form(service: Running) -> None:
    files: dict[str, Any] = {
        "prompt": (None, "x"),
        "image": ("a.png", packed(gradient())),
        "depth_map": ("d.png", packed(Image.fromarray(DEPTH))),
        "image_guidance_scale": (None, "3"),
    }
    assert service.client.post("/v1/img2img", files=files).status_code == 200
    seen = service.worker.seen[-1]
    assert (seen.image_guidance_scale, seen.depth_map_key is None) == (3.0, False)


@pytest.mark.parametrize(
    ("task", "fields", "field", "bound"),
    [
        ("img2img", {"image_guidance_scale": 0.5}, "image_guidance_scale", "at least 1"),
        ("upscale", {"noise_level": 351}, "noise_level", "at most 350"),
        ("upscale", {"noise_level": 2.5}, "noise_level", "an integer"),
        ("img2img", {"noise_level": 20}, "noise_level", "absent for img2img"),
        ("img2img", {"image_guidance_scale": "x"}, "image_guidance_scale", "a number"),
        ("img2img", {"depth_map": None}, "depth_map", "conditioned on the depth of the image"),
        ("img2img", {"depth_map": "AAAA"}, "depth_map", "PNG"),
        ("txt2img", {"image_guidance_scale": 2}, "image_guidance_scale", "absent for txt2img"),
        ("inpaint", {"depth_map": "AAAA"}, "depth_map", "there is no such field here"),
    ],
)
def test_wrong_values_are_refused(
    service: Running, task: str, fields: dict[str, Any], field: str, bound: str
) -> None:
    given: dict[str, Any] = {} if task == "txt2img" else {"image": IMAGE}
    if task == "img2img":
        given["depth_map"] = depth_map()
    response = post(service, task, **given | fields)
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, field), problem
    assert bound in problem["bound"], problem


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        ({"image_guidance_scale": 2}, "does not edit images by instructions"),
        ({"depth_map": depth_map()}, "reads no depth map"),
    ],
)
def test_models_without_them_refuse_them(
    plain: Running, fields: dict[str, Any], bound: str
) -> None:
    response = post(plain, "img2img", image=IMAGE, **fields)
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, *fields)
    assert bound in problem["bound"]
