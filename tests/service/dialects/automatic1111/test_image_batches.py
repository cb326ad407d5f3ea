"""img2img with several initial images: a job for each, all of them or none."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from protocol.connection.keyspace import key
from protocol.request.fields import SEED_LIMIT
from protocol.request.tasks import Task
from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import (
    DATA_URI,
    MASK,
    WEBUI_CARD,
    get,
    info,
    post,
    refused,
)
from tests.service.keys import ADMIN_KEY, key_for
from tests.service.sample_images import gradient, in_base64, opened, packed, same
from tests.support.redis_server import RedisServer

GIVEN = [gradient(), gradient().rotate(90), gradient().rotate(180)]
FILES = [in_base64(packed(given)) for given in GIVEN]


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


@pytest.fixture
def client(webui: Running) -> Iterator[httpx.Client]:
    """A client with a key of its own."""
    with httpx.Client(base_url=webui.url, headers=key_for(webui), timeout=30) as client:
        yield client


def images_of(answer: Any) -> list[Image.Image]:
    return [opened(base64.b64decode(image, validate=True)) for image in answer["images"]]


def test_each_image_is_generated_from_its_own(webui: Running, client: httpx.Client) -> None:
    sent = {"prompt": "x", "init_images": [FILES[0], DATA_URI + FILES[1], FILES[2]], "seed": 7}
    before = len(webui.worker.seen)
    answer = post(client, "img2img", **sent, batch_size=3)
    assert all(map(same, images_of(answer), GIVEN))
    requests = webui.worker.seen[before:]
    assert [(one.task, one.n) for one in requests] == [(Task.IMG2IMG, 1)] * 3
    assert sorted(one.seed for one in requests) == [7, 8, 9]
    found = info(answer)
    assert (found["seed"], found["all_seeds"], found["batch_size"]) == (7, [7, 8, 9], 3)
    for seed, text in zip((7, 8, 9), found["infotexts"], strict=True):
        assert f"Seed: {seed}," in text
    assert answer["parameters"]["batch_size"] == 3
    assert answer["parameters"]["init_images"] is None


def test_their_number_takes_the_place_of_batch_size(client: httpx.Client) -> None:
    for batch_size in (1, 2, 4):
        answer = post(client, "img2img", prompt="x", init_images=FILES[:2], batch_size=batch_size)
        assert len(answer["images"]) == 2
        assert info(answer)["batch_size"] == 2


def test_iterations_take_the_images_in_turn(client: httpx.Client) -> None:
    answer = post(client, "img2img", prompt="x", init_images=FILES[:2], n_iter=2, seed=1)
    assert all(map(same, images_of(answer), [GIVEN[0], GIVEN[1]] * 2))
    assert info(answer)["all_seeds"] == [1, 2, 3, 4]


def test_a_random_seed_is_that_of_the_first(client: httpx.Client) -> None:
    first, second = info(post(client, "img2img", prompt="x", init_images=FILES[:2]))["all_seeds"]
    assert second == (first + 1) % SEED_LIMIT


def test_each_keeps_its_own_size(client: httpx.Client) -> None:
    wide = in_base64(packed(gradient(96, 64)))
    answer = post(client, "img2img", prompt="x", init_images=[FILES[0], wide])
    assert [image.size for image in images_of(answer)] == [(64, 64), (96, 64)]
    texts = info(answer)["infotexts"]
    assert "Size: 64x64" in texts[0]
    assert "Size: 96x64" in texts[1]


def test_a_mask_holds_for_all(webui: Running, client: httpx.Client) -> None:
    sent = {"prompt": "x", "init_images": FILES[:2], "mask": MASK, "mask_blur": 0}
    answer = post(client, "img2img", **sent, inpaint_full_res=False)
    for image, given in zip(images_of(answer), GIVEN[:2], strict=True):
        pixels = np.asarray(image)
        assert (pixels[:, :32] == (255, 0, 0)).all()
        assert (pixels[:, 32:] == np.asarray(given)[:, 32:]).all()
    assert webui.worker.seen[-1].task is Task.INPAINT


def test_a_control_image_holds_for_all(webui: Running, client: httpx.Client) -> None:
    units = {"ControlNet": {"args": [{"image": FILES[2], "model": "canny"}]}}
    post(client, "img2img", prompt="x", init_images=FILES[:2], alwayson_scripts=units)
    controls = [one.controls[0].image_key for one in webui.worker.seen[-2:]]
    assert len(set(controls)) == 1


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({"init_images": FILES + FILES}, "init_images is 6, but must be at most 4, over"),
        ({"init_images": FILES, "n_iter": 2}, "init_images is 6, but must be at most 4, over"),
        ({"init_images": [*FILES, "no base64!"]}, "init_images.3 is"),
        ({"init_images": [FILES[0], in_base64(b"no image")]}, "init_images.1 is"),
        ({"init_images": [*FILES, "http://127.0.0.1/a.png"]}, "init_images.3 is"),
        ({"init_images": FILES, "steps": 1000}, "steps is 1000, but must be at most 50"),
    ],
)
def test_what_is_wrong_with_one_queues_none(
    webui: Running, client: httpx.Client, sent: Any, detail: str
) -> None:
    before = len(webui.worker.seen)
    response = client.post("/sdapi/v1/img2img", json={"prompt": "x", **sent})
    assert response.status_code == 422, response.text
    assert response.json()["detail"].startswith(detail)
    assert len(webui.worker.seen) == before


def test_an_image_that_is_missing(client: httpx.Client) -> None:
    sent = {"prompt": "x", "init_images": [FILES[0], ""]}
    assert refused(client, "img2img", **sent) == (404, "Init image not found")


def test_what_a_key_may_not_have_at_once_queues_none(webui: Running) -> None:
    with httpx.Client(base_url=webui.url, headers=key_for(webui, jobs=2), timeout=30) as few:
        before = len(webui.worker.seen)
        status, _ = refused(few, "img2img", prompt="x", init_images=FILES)
        assert (status, len(webui.worker.seen)) == (422, before)
        assert len(post(few, "img2img", prompt="x", init_images=FILES[:2])["images"]) == 2


def test_a_retry_gets_the_same_images(webui: Running, client: httpx.Client) -> None:
    client.headers["Idempotency-Key"] = "several images"
    before = len(webui.worker.seen)
    sent = {"prompt": "x", "init_images": FILES[:2]}
    first, again = (post(client, "img2img", **sent) for _ in range(2))
    assert info(again)["all_seeds"] == info(first)["all_seeds"]
    assert len(webui.worker.seen) == before + 2
    other = {"prompt": "x", "init_images": FILES[1:]}
    status, detail = refused(client, "img2img", **other)
    assert (status, detail.split()[0]) == (422, "Idempotency-Key")


def test_each_job_keeps_its_own_image(webui: Running, client: httpx.Client) -> None:
    """An input is kept for the jobs that need it, and goes when they are deleted."""
    post(client, "img2img", prompt="x", init_images=FILES[:2])
    redis = webui.worker.redis
    for job_id, request in zip(webui.worker.jobs[-2:], webui.worker.seen[-2:], strict=True):
        assert request.image_key is not None
        kept = redis.hget(f"rq:job:{job_id}", "inputs")
        assert isinstance(kept, bytes)
        assert json.loads(kept) == [request.image_key]
        assert redis.zscore(key("users", request.image_key), job_id) is not None


def until(client: httpx.Client, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first progress of which `reached` is true."""
    while not reached(found := get(client, "progress")):
        time.sleep(0.01)
    return dict(found)


def test_progress_and_interruption_are_of_all(webui: Running, client: httpx.Client) -> None:
    webui.worker.hold_at_step = 2
    webui.worker.hold()
    sent = {"prompt": "x", "init_images": FILES[:2], "steps": 4, "denoising_strength": 1}
    with ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(lambda: post(client, "img2img", **sent, force_task_id="both"))
            found = until(client, lambda now: now["state"]["sampling_step"] == 2)
            assert found["progress"] == pytest.approx(0.01 + 0.25)
            assert (found["state"]["job_count"], found["current_task"]) == (1, "both")
            assert post(client, "interrupt") == {}
            stopped = answer.result()
        finally:
            webui.worker.release()
    assert stopped["images"] == []
    assert len(info(stopped)["infotexts"]) == 2
    assert get(client, "progress")["state"]["job_count"] == 0
    assert post(client, "/internal/progress", id_task="both")["completed"]
