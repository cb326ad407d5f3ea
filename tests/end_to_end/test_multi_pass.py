"""Tests of the SDXL refiner and hires fix over HTTP, with a real Redis and worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.end_to_end.test_tasks import encoded
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_refiner, write_tiny_sdxl

MODELS_CONFIG = """
[models.base]
source = "./base"
resident = true
refiner = "refiner"

[models.refiner]
source = "./refiner"
"""
FIELDS = {"model": "base", "prompt": "the red cat", "seed": 5, "steps": 6, "sampler": "euler"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("refined")
    write_tiny_sdxl(folder / "base")
    write_tiny_refiner(folder / "refiner")
    (folder / "models.toml").write_text(MODELS_CONFIG, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_DEFAULT_MODEL": "base",
        "DARKROOM_WORKER_TUNE_S": "0",
    }
    with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def generate(client: httpx.Client, task: str = "txt2img", **changes: object) -> dict[str, Any]:
    response = client.post(f"/v1/{task}", json={**FIELDS, **changes})
    assert response.status_code == 200, response.text
    (image,) = response.json()["images"]
    assert isinstance(image, dict)
    return image


def refused(client: httpx.Client, task: str = "txt2img", **changes: object) -> dict[str, Any]:
    response = client.post(f"/v1/{task}", json={**FIELDS, **changes})
    assert response.status_code == 422
    problem: dict[str, Any] = response.json()
    return problem


def test_card_lists_the_refiner_and_its_tasks(client: httpx.Client) -> None:
    cards = {card["name"]: card for card in client.get("/v1/models").json()["models"]}
    assert cards["base"]["refiners"] == ["refiner"]
    assert cards["refiner"]["tasks"] == ["img2img", "inpaint", "outpaint"]
    assert cards["refiner"]["reads_aesthetic_score"] is True


def test_refiner_runs_the_last_steps(client: httpx.Client) -> None:
    plain, refined = generate(client), generate(client, refiner="refiner", refiner_start=0.5)
    assert plain["base64"] != refined["base64"]
    again = generate(client, refiner="refiner", refiner_start=0.5)
    scored = generate(client, refiner="refiner", refiner_start=0.5, aesthetic_score=2)
    assert again["base64"] == refined["base64"] != scored["base64"]


def test_refiner_alone_does_img2img(client: httpx.Client) -> None:
    image = encoded(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
    given = {"model": "refiner", "image": image, "strength": 0.5}
    assert generate(client, "img2img", **given, aesthetic_score=8)
    assert refused(client, model="refiner")["field"] == "model"


def test_hires_fix_enlarges_the_image(client: httpx.Client) -> None:
    small, large = (
        generate(client, width=24, height=32),
        generate(client, width=24, height=32, hires_scale=2),
    )
    assert (small["width"], small["height"]) == (24, 32)
    assert (large["width"], large["height"]) == (48, 64)


def test_unknown_refiner_is_refused_with_the_known_names(client: httpx.Client) -> None:
    problem = refused(client, refiner="unknown")
    assert (problem["field"], problem["bound"]) == ("refiner", "one of refiner, for base")
    problem = refused(client, hires_scale=8)
    assert problem["field"] == "hires_scale"
