"""A base with its refiner, and pictures drawn twice, through HTTP, Redis and one worker."""

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

CATALOGUE = """
[models.base]
source = "./base"
resident = true
refiner = "refiner"

[models.refiner]
source = "./refiner"
"""
ASKED = {"model": "base", "prompt": "the red cat", "seed": 5, "steps": 6, "sampler": "euler"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("refined")
    write_tiny_sdxl(folder / "base")
    write_tiny_refiner(folder / "refiner")
    (folder / "models.toml").write_text(CATALOGUE, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_DEFAULT_MODEL": "base",
        "DARKROOM_WORKER_TUNE_S": "0",
    }
    with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def drawn(client: httpx.Client, task: str = "txt2img", **changes: object) -> dict[str, Any]:
    answer = client.post(f"/v1/{task}", json={**ASKED, **changes})
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["images"]
    assert isinstance(image, dict)
    return image


def refused(client: httpx.Client, task: str = "txt2img", **changes: object) -> dict[str, Any]:
    answer = client.post(f"/v1/{task}", json={**ASKED, **changes})
    assert answer.status_code == 422
    problem: dict[str, Any] = answer.json()
    return problem


def test_the_card_names_the_refiner_and_what_it_does(client: httpx.Client) -> None:
    cards = {card["name"]: card for card in client.get("/v1/models").json()["models"]}
    assert cards["base"]["refiners"] == ["refiner"]
    assert cards["refiner"]["tasks"] == ["img2img", "inpaint"]
    assert cards["refiner"]["reads_aesthetic_score"] is True


def test_the_refiner_takes_over(client: httpx.Client) -> None:
    plain, refined = drawn(client), drawn(client, refiner="refiner", refiner_start=0.5)
    assert plain["base64"] != refined["base64"]
    again = drawn(client, refiner="refiner", refiner_start=0.5)
    refiner = drawn(client, refiner="refiner", refiner_start=0.5, aesthetic_score=2)
    assert again["base64"] == refined["base64"] != refiner["base64"]


def test_the_refiner_alone(client: httpx.Client) -> None:
    image = encoded(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
    given = {"model": "refiner", "image": image, "strength": 0.5}
    assert drawn(client, "img2img", **given, aesthetic_score=8)
    assert refused(client, model="refiner")["field"] == "model"


def test_a_picture_drawn_twice_is_larger(client: httpx.Client) -> None:
    small, large = (
        drawn(client, width=24, height=32),
        drawn(client, width=24, height=32, hires_scale=2),
    )
    assert (small["width"], small["height"]) == (24, 32)
    assert (large["width"], large["height"]) == (48, 64)


def test_refusals_say_what_there_is(client: httpx.Client) -> None:
    problem = refused(client, refiner="nobody")
    assert (problem["field"], problem["bound"]) == ("refiner", "one of refiner, for base")
    problem = refused(client, hires_scale=8)
    assert problem["field"] == "hires_scale"
