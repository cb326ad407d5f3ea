"""Outpainting over HTTP, with a real Redis and worker: sizes, known pixels, rounds, same bytes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.end_to_end.test_tasks import encoded, fetch_image, result_of

SIDE = 32  # of what the model generates at once
BLEND = 2  # by default
COMMON = {"prompt": "the red cat", "steps": 2, "sampler": "ddim", "strength": 1.0, "seed": 9}
IMAGE = np.random.default_rng(5).integers(0, 256, (28, 33, 3), np.uint8)


def body(**fields: object) -> dict[str, Any]:
    return {**COMMON, "image": encoded(Image.fromarray(IMAGE)), **fields}


def outpainted(client: httpx.Client, **fields: object) -> NDArray[np.uint8]:
    [image] = result_of(client, "outpaint", body(**fields), wait=True)["images"]
    return np.asarray(fetch_image(client, image))


@pytest.mark.parametrize(
    ("fields", "place", "size"),
    [
        ({"left": 9, "bottom": 5}, (9, 0), (42, 33)),
        ({"left": 31, "right": 50, "top": 3, "bottom": 40}, (31, 3), (114, 71)),
        ({"width": 70, "height": 29, "anchor": "right"}, (37, 0), (70, 29)),
    ],
)
def test_image_is_kept_and_its_border_is_new(
    client: httpx.Client, fields: dict[str, object], place: tuple[int, int], size: tuple[int, int]
) -> None:
    first, second = (outpainted(client, **fields, seed=seed) for seed in (1, 2))
    (left, top), (width, height) = place, size
    assert first.shape == second.shape == (height, width, 3)
    right, bottom = width - left - 33, height - top - 28
    kept = np.zeros((height, width), bool)
    kept[
        top + BLEND * (top > 0) : top + 28 - BLEND * (bottom > 0),
        left + BLEND * (left > 0) : left + 33 - BLEND * (right > 0),
    ] = True
    whole = np.zeros_like(first)
    whole[top : top + 28, left : left + 33] = IMAGE
    for found in (first, second):
        np.testing.assert_array_equal(found[kept], whole[kept])
    border = np.ones((height, width), bool)
    border[top : top + 28, left : left + 33] = False
    assert (first != second).any(axis=2)[border].mean() > 0.9


def test_progress_is_of_all_rounds_and_a_job_can_be_cancelled(client: httpx.Client) -> None:
    asked = body(right=4 * SIDE, steps=150)
    submitted = client.post("/v1/outpaint", json=asked, headers={"Prefer": "respond-async"})
    location = submitted.headers["Location"]
    while not ((job := client.get(location).json()).get("progress") or {}).get("step"):
        assert job["state"] in ("queued", "running")
        time.sleep(0.01)
    assert job["progress"]["steps"] > 4 * 150
    client.delete(location)
    while (job := client.get(location).json())["state"] == "running":
        time.sleep(0.02)
    assert job["state"] == "cancelled"


def test_same_bytes_alone_and_in_a_crowd(client: httpx.Client) -> None:
    asked = [body(right=40, seed=seed, sampler="euler_ancestral") for seed in (1, 2, 3)]
    asked += [body(top=5, left=20, seed=4, n=2)]
    alone = [result_of(client, "outpaint", one, wait=True)["images"] for one in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        found = pool.map(lambda one: result_of(client, "outpaint", one, wait=True), asked)
        together = [result["images"] for result in found]
    assert [[i["base64"] for i in of] for of in together] == [
        [i["base64"] for i in of] for of in alone
    ]
    assert len({of[0]["base64"] for of in alone}) == len(asked)


def test_every_format_has_the_size(client: httpx.Client) -> None:
    for output_format in ("jpeg", "webp"):
        found = outpainted(client, left=3, output_format=output_format)
        assert found.shape == (28, 36, 3)


def test_transparent_image_has_its_alpha_again(client: httpx.Client) -> None:
    image = np.dstack([IMAGE, np.tile(np.arange(33, dtype=np.uint8), (28, 1))])
    found = outpainted(client, image=encoded(Image.fromarray(image)), right=20)
    np.testing.assert_array_equal(found[:, : 33 - BLEND], image[:, : 33 - BLEND])
    assert (found[:, 33 - BLEND :, 3] == 255).all()


def test_card_offers_outpaint_beside_inpaint(client: httpx.Client) -> None:
    [card] = client.get("/v1/models").json()["models"]
    assert {"inpaint", "outpaint"} <= set(card["tasks"])


def test_wrong_border_is_told_with_its_bound(client: httpx.Client) -> None:
    response = client.post("/v1/outpaint", json=body(width=32))
    problem = response.json()
    assert response.status_code == 422
    assert (problem["field"], problem["value"]) == ("width", 32)
    assert problem["bound"] == "at least 33, as the image is 33x28"
