"""Tests of txt2img, img2img and inpaint over HTTP, with a real Redis and worker."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

SIZE = {"width": 48, "height": 32}
COMMON = {"prompt": "the red cat", "steps": 3, "sampler": "ddim", "schedule": "leading", "seed": 9}


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def body_of(task: str) -> dict[str, Any]:
    if task == "txt2img":
        return COMMON | SIZE
    image = Image.linear_gradient("L").resize((48, 32)).convert("RGB")
    body = COMMON | {"image": encoded(image), "strength": 0.7}
    if task == "inpaint":
        mask = Image.new("L", (48, 32), 0)
        mask.paste(255, (12, 8, 36, 24))
        body["mask"] = "data:image/png;base64," + encoded(mask)
    return body


def result_of(client: httpx.Client, task: str, body: dict[str, Any], *, wait: bool) -> Any:
    """Return the finished generation: from the response, or by polling the job."""
    if wait:
        response = client.post(f"/v1/{task}", json=body)
        assert response.status_code == 200, response.text
        return response.json()
    response = client.post(f"/v1/{task}", json=body, headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    location = response.headers["Location"]
    seen = []
    while (job := client.get(location).json())["state"] not in ("finished", "failed", "cancelled"):
        seen.append(job["state"])
        time.sleep(0.02)
    assert job["state"] == "finished", job
    assert set(seen) <= {"queued", "running"}
    return job["result"]


def fetch_image(client: httpx.Client, image: dict[str, Any]) -> Image.Image:
    if image.get("base64"):
        data = base64.b64decode(image["base64"])
    else:
        response = client.get(image["url"])
        assert response.headers["Content-Type"] == f"image/{image['format']}"
        data = response.content
    assert len(data) == image["bytes"]
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "avif"])
@pytest.mark.parametrize("response", ["base64", "url"])
@pytest.mark.parametrize("wait", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("task", ["txt2img", "img2img", "inpaint"])
def test_task(
    client: httpx.Client, task: str, wait: bool, response: str, output_format: str
) -> None:
    body = body_of(task) | {"response": response, "output_format": output_format, "n": 2}
    done = result_of(client, task, body, wait=wait)
    assert [image["seed"] for image in done["images"]] == [9, 10]
    assert done["timings"]["denoise"] > 0
    for image in done["images"]:
        opened = fetch_image(client, image)
        assert opened.format == output_format.upper()
        assert opened.size == (image["width"], image["height"]) == (48, 32)
        assert np.asarray(opened.convert("RGB")).std() > 1


def test_same_request_gives_the_same_bytes(client: httpx.Client) -> None:
    first, again = (result_of(client, "txt2img", body_of("txt2img"), wait=True) for _ in range(2))
    assert first["images"][0]["base64"] == again["images"][0]["base64"]
    other = result_of(client, "txt2img", body_of("txt2img") | {"seed": 10}, wait=True)
    assert other["images"][0]["base64"] != first["images"][0]["base64"]


def test_png_has_the_request_that_generates_it_again(client: httpx.Client) -> None:
    [image] = result_of(client, "txt2img", body_of("txt2img"), wait=True)["images"]
    text = fetch_image(client, image).info
    request = next(
        json.loads(value)
        for value in text.values()
        if isinstance(value, str) and value.startswith("{")
    )
    assert request["prompt"] == "the red cat"
    again = {key: request[key] for key in (*COMMON, *SIZE)}
    [second] = result_of(client, "txt2img", again, wait=True)["images"]
    assert second["base64"] == image["base64"]


def test_inpainting_keeps_the_image_outside_the_mask(client: httpx.Client) -> None:
    body = body_of("inpaint") | {"strength": 1.0}
    images = [
        np.asarray(fetch_image(client, result["images"][0]).convert("RGB"), dtype=int)
        for result in (
            result_of(client, "inpaint", body | {"prompt": prompt, "seed": 4}, wait=True)
            for prompt in ("a red cat", "something else")
        )
    ]
    difference = np.abs(images[0] - images[1])
    assert difference[8:24, 12:36].max() > 0
    sent = Image.open(io.BytesIO(base64.b64decode(body["image"])))
    kept = np.ones((32, 48), bool)
    kept[8:24, 12:36] = False
    for image in images:
        np.testing.assert_array_equal(image[kept], np.asarray(sent)[kept])


def test_multipart_equals_json(client: httpx.Client) -> None:
    body = body_of("img2img")
    files = {"image": ("cat.png", base64.b64decode(body.pop("image")), "image/png")}
    form = client.post("/v1/img2img", data={k: str(v) for k, v in body.items()}, files=files)
    assert form.status_code == 200, form.text
    plain = result_of(client, "img2img", body_of("img2img"), wait=True)
    assert form.json()["images"][0]["base64"] == plain["images"][0]["base64"]


def test_running_job_has_progress_and_can_be_cancelled(client: httpx.Client) -> None:
    body = body_of("txt2img") | {"steps": 150, "n": 4, "guidance_scale": 5}
    submitted = client.post("/v1/txt2img", json=body, headers={"Prefer": "respond-async"})
    location = submitted.headers["Location"]
    while (job := client.get(location).json())["state"] in ("queued", "running"):
        if (job.get("progress") or {}).get("step"):
            break
        time.sleep(0.01)
    assert job["state"] == "running"
    assert 0 < job["progress"]["step"] < job["progress"]["steps"] == 600
    assert client.delete(location).status_code in (200, 202)
    while (job := client.get(location).json())["state"] == "running":
        time.sleep(0.02)
    assert job["state"] == "cancelled"
    # The worker continues with other jobs.
    result_of(client, "txt2img", body_of("txt2img"), wait=True)


def test_operator_routes_respond(client: httpx.Client) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    [model] = client.get("/v1/models").json()["models"]
    assert model["name"] == "tiny"
    samplers = client.get("/v1/samplers").text
    assert all(name in samplers for name in ("ddim", "plms", "euler", "dpmpp_2m", "unipc"))
    assert "darkroom_" in client.get("/metrics").text
    assert "/v1/txt2img" in client.get("/openapi.json").json()["paths"]
