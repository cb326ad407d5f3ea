"""Models with EDM preconditioning and flows over HTTP, with a real Redis and worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.models.published.families import (
    EDM_DPM,
    EDM_EULER,
    NORMALISED,
    SDXL_UNET,
    Published,
    write,
)
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd

SDXL = "StableDiffusionXLPipeline"
MODELS_CONFIG = """
[models.playground]
source = "./playground"
resident = true

[models.cosxl]
source = "./cosxl"
resident = true

[models.flow]
source = "./plain"
resident = true
prediction_type = "flow_prediction"
flow_shift = 3.0
"""
FIELDS = {"prompt": "the red cat", "seed": 5, "steps": 2, "width": 32, "height": 32}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("trainings")
    write(Published("", SDXL, SDXL_UNET, EDM_DPM, vae=NORMALISED), folder / "playground")
    write(Published("", SDXL, SDXL_UNET, EDM_EULER), folder / "cosxl")
    write_tiny_sd(folder / "plain")
    (folder / "models.toml").write_text(MODELS_CONFIG, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_DEFAULT_MODEL": "flow",
        "DARKROOM_WORKER_TUNE_S": "0",
    }
    with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def models(client: httpx.Client) -> dict[str, Any]:
    return {one["name"]: one for one in client.get("/v1/models").json()["models"]}


@pytest.mark.parametrize(
    ("model", "sampler", "schedule"),
    [
        ("playground", "dpmpp_2m", "karras"),
        ("cosxl", "euler", "exponential"),
        ("flow", "euler", "flow"),
    ],
)
def test_image_with_the_published_sampler(
    client: httpx.Client, model: str, sampler: str, schedule: str
) -> None:
    card = models(client)[model]
    assert (card["default_sampler"], card["default_schedule"]) == (sampler, schedule)
    response = client.post("/v1/txt2img", json={**FIELDS, "model": model})
    assert response.status_code == 200, response.text
    assert response.json()["images"]


@pytest.mark.parametrize(
    ("model", "fields", "bound"),
    [
        ("flow", {"sampler": "ddim"}, "euler, dpmpp_2m, unipc, dpmpp_2m_sde"),
        ("flow", {"schedule": "karras"}, "flow, flow-dpm, flow-unipc"),
        ("playground", {"sampler": "lcm"}, "ddim, euler"),
        ("cosxl", {"schedule": "flow"}, "karras"),
    ],
)
def test_sampler_of_another_training_is_refused(
    client: httpx.Client, model: str, fields: dict[str, str], bound: str
) -> None:
    response = client.post("/v1/txt2img", json={**FIELDS, "model": model, **fields})
    assert response.status_code == 422
    assert bound in response.text
    assert all(value in response.text for value in fields.values())
