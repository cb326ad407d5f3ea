"""Tests of the paper's tasks over HTTP, with one worker and a model for each task."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.models.published import small_models
from tests.support.local_stack import running_stack

WRITERS = {
    "faces": small_models.write_unconditional,
    "text": small_models.write_text_to_image,
    "classes": small_models.write_class,
    "boxes": small_models.write_layout,
    "maps": small_models.write_semantic,
    "holes": small_models.write_inpainting,
    "large": small_models.write_super_resolution,
}


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


IMAGE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
HOLE = Image.new("L", (32, 32))
HOLE.paste(255, (0, 0, 16, 32))
BOX = {"class": 3, "x": 0.25, "y": 0.0, "width": 0.75, "height": 0.5}
# Route, its default model, fields of the request, size of the image.
REQUESTS: list[tuple[str, str, dict[str, Any], tuple[int, int]]] = [
    ("unconditional", "faces", {}, (32, 32)),
    ("txt2img", "text", {"prompt": "the red cats", "model": "text"}, (32, 32)),
    ("class", "classes", {"class_id": 5, "guidance_scale": 3}, (32, 32)),
    ("layout", "boxes", {"boxes": [BOX], "width": 48}, (48, 48)),
    ("semantic", "maps", {"image": encoded(Image.new("L", (40, 32), 5))}, (40, 32)),
    (
        "inpaint",
        "holes",
        {"image": encoded(IMAGE), "mask": encoded(HOLE), "model": "holes"},
        (32, 32),
    ),
    ("upscale", "large", {"image": encoded(IMAGE.resize((13, 9)))}, (52, 36)),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("paper")
    entries = [
        f'[models.{name}]\nsource = "{write(folder / name)}"\n' for name, write in WRITERS.items()
    ]
    config = folder / "models.toml"
    config.write_text("\n".join(entries), "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(config),
        "DARKROOM_WORKER_TUNE_S": "1",
    }
    with running_stack(**settings) as url:
        yield url


@pytest.mark.parametrize(
    ("task", "model", "body", "size"), REQUESTS, ids=[task for task, *_ in REQUESTS]
)
def test_each_task_generates_an_image(
    url: str, task: str, model: str, body: dict[str, Any], size: tuple[int, int]
) -> None:
    sent = body | {"steps": 3, "seed": 7}
    responses = [httpx.post(f"{url}/v1/{task}", json=sent, timeout=60) for _ in range(2)]
    for response in responses:
        assert response.status_code == 200, response.text
    first, again = (response.json()["images"][0] for response in responses)
    assert first["base64"] == again["base64"]
    image = Image.open(io.BytesIO(base64.b64decode(first["base64"])))
    assert image.size == size
    assert np.asarray(image).std() > 1
    request = json.loads(image.info["darkroom"])
    assert (request["task"], request["model"]) == (task, model)
    if task == "inpaint":
        kept = np.asarray(image)[:, 16:]
        np.testing.assert_array_equal(kept, np.asarray(IMAGE)[:, 16:])


def test_unsupported_task_is_refused_with_the_models_that_support_it(url: str) -> None:
    cards = httpx.get(f"{url}/v1/models", timeout=60).json()["models"]
    tasks = {card["name"]: card["tasks"] for card in cards}
    assert tasks["large"] == ["upscale"]
    assert tasks["text"] == ["txt2img", "img2img", "inpaint", "outpaint"]
    response = httpx.post(f"{url}/v1/class", json={"class_id": 1, "model": "large"}, timeout=60)
    problem = response.json()
    assert response.status_code == 422
    assert problem["type"] == "urn:darkroom:problem:unsupported-task"
    assert "can do class (classes); large does upscale" in problem["detail"]
