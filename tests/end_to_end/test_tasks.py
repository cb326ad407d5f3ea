"""txt2img, img2img and inpaint through HTTP, Redis, a worker and a network, and back."""

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


def answer_of(client: httpx.Client, task: str, body: dict[str, Any], *, wait: bool) -> Any:
    """The finished generation: from the answer itself, or by polling the job."""
    if wait:
        answer = client.post(f"/v1/{task}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()
    answer = client.post(f"/v1/{task}", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    location = answer.headers["Location"]
    seen = []
    while (job := client.get(location).json())["state"] not in ("finished", "failed", "cancelled"):
        seen.append(job["state"])
        time.sleep(0.02)
    assert job["state"] == "finished", job
    assert set(seen) <= {"queued", "running"}
    return job["result"]


def picture(client: httpx.Client, image: dict[str, Any]) -> Image.Image:
    if image.get("base64"):
        data = base64.b64decode(image["base64"])
    else:
        answer = client.get(image["url"])
        assert answer.headers["Content-Type"] == f"image/{image['format']}"
        data = answer.content
    assert len(data) == image["bytes"]
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("response", ["base64", "url"])
@pytest.mark.parametrize("wait", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("task", ["txt2img", "img2img", "inpaint"])
def test_task(
    client: httpx.Client, task: str, wait: bool, response: str, output_format: str
) -> None:
    body = body_of(task) | {"response": response, "output_format": output_format, "n": 2}
    done = answer_of(client, task, body, wait=wait)
    assert [image["seed"] for image in done["images"]] == [9, 10]
    assert done["timings"]["denoise"] > 0
    for image in done["images"]:
        drawn = picture(client, image)
        assert drawn.format == output_format.upper()
        assert drawn.size == (image["width"], image["height"]) == (48, 32)
        assert np.asarray(drawn.convert("RGB")).std() > 1


def test_the_same_request_gives_the_same_bytes(client: httpx.Client) -> None:
    first, again = (answer_of(client, "txt2img", body_of("txt2img"), wait=True) for _ in range(2))
    assert first["images"][0]["base64"] == again["images"][0]["base64"]
    other = answer_of(client, "txt2img", body_of("txt2img") | {"seed": 10}, wait=True)
    assert other["images"][0]["base64"] != first["images"][0]["base64"]


def test_a_png_carries_the_recipe_that_draws_it_again(client: httpx.Client) -> None:
    [image] = answer_of(client, "txt2img", body_of("txt2img"), wait=True)["images"]
    text = picture(client, image).info
    recipe = next(
        json.loads(value)
        for value in text.values()
        if isinstance(value, str) and value.startswith("{")
    )
    assert recipe["prompt"] == "the red cat"
    again = {key: recipe[key] for key in (*COMMON, *SIZE)}
    [drawn] = answer_of(client, "txt2img", again, wait=True)["images"]
    assert drawn["base64"] == image["base64"]


def test_inpainting_leaves_the_rest_almost_alone(client: httpx.Client) -> None:
    """Outside the mask only the autoencoder's own loss is left, the same for any prompt."""
    body = body_of("inpaint") | {"strength": 1.0}
    pictures = [
        np.asarray(picture(client, answer["images"][0]).convert("RGB"), dtype=int)
        for answer in (
            answer_of(client, "inpaint", body | {"prompt": prompt, "seed": 4}, wait=True)
            for prompt in ("a red cat", "something else")
        )
    ]
    difference = np.abs(pictures[0] - pictures[1])
    assert difference[:, :4].max() < difference[8:24, 12:36].max()


def test_multipart_says_the_same_as_json(client: httpx.Client) -> None:
    body = body_of("img2img")
    files = {"image": ("cat.png", base64.b64decode(body.pop("image")), "image/png")}
    form = client.post("/v1/img2img", data={k: str(v) for k, v in body.items()}, files=files)
    assert form.status_code == 200, form.text
    plain = answer_of(client, "img2img", body_of("img2img"), wait=True)
    assert form.json()["images"][0]["base64"] == plain["images"][0]["base64"]


def test_a_running_job_shows_its_steps_and_can_be_cancelled(client: httpx.Client) -> None:
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
    # The worker goes on with other work.
    answer_of(client, "txt2img", body_of("txt2img"), wait=True)


def test_operators_see_it(client: httpx.Client) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    [model] = client.get("/v1/models").json()["models"]
    assert model["name"] == "tiny"
    samplers = client.get("/v1/samplers").text
    assert all(name in samplers for name in ("ddim", "plms", "euler", "dpmpp_2m", "unipc"))
    assert "darkroom_" in client.get("/metrics").text
    assert "/v1/txt2img" in client.get("/openapi.json").json()["paths"]
