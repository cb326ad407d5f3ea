"""Tests of a models config over HTTP: names, aliases, loading on demand, and a broken model."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.loading.inspection import inspect_checkpoint
from tests.end_to_end.test_tasks import encoded
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_distilled, write_tiny_sd, write_tiny_sdxl

MODELS_CONFIG = """
memory_budget = {budget}

[models.small]
source = "sd"
aliases = ["default", "stable"]
resident = true
defaults = {{ steps = 2, description = "a small one" }}

[models.large]
source = "./xl"
resident = "on-demand"
precision = "fp32"
vae = "./other-vae"

[models."{extra}"]
source = "sd"
unet = "./quick"

[models.broken]
source = "./broken"
"""
EXTRA = "Экстра モデル v1.5"  # a name goes through keys, labels and logs
FIELDS = {"prompt": "the red cat", "seed": 5, "steps": 2, "sampler": "ddim"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("served")
    home = folder / "home"
    write_tiny_sd(home / "models" / "sd")
    large = write_tiny_sdxl(folder / "xl")
    write_tiny_distilled(write_tiny_sd(folder / "quick"))
    shutil.copytree(write_tiny_sdxl(folder / "yl") / "vae", folder / "other-vae")
    broken = Path(shutil.copytree(large, folder / "broken"))
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    # Memory for the resident model and the largest other: two others never fit at the same time.
    sizes = [
        inspect_checkpoint(str(path)).weights["fp32"] for path in (home / "models" / "sd", large)
    ]
    config = MODELS_CONFIG.format(budget=sizes[0] + max(sizes), extra=EXTRA)
    (folder / "models.toml").write_text(config, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_MODELS_HOME": str(home),
        "DARKROOM_DEFAULT_MODEL": "stable",
        "DARKROOM_WORKER_TUNE_S": "0",
    }
    with running_stack(**settings) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def models(client: httpx.Client) -> dict[str, Any]:
    listed = client.get("/v1/models").json()["models"]
    return {model["name"]: model for model in listed}


def wait_for_ready(client: httpx.Client, *names: str) -> dict[str, Any]:
    """Wait until exactly these models are ready; returns all models."""
    for _ in range(200):
        listed = models(client)
        if {name for name, model in listed.items() if model["ready"]} == set(names):
            return listed
        time.sleep(0.05)
    raise AssertionError(listed)


def generate(client: httpx.Client, **changes: object) -> Any:
    response = client.post("/v1/txt2img", json={**FIELDS, **changes})
    assert response.status_code == 200, response.text
    return response.json()


def test_all_models_are_listed_and_one_loads_on_demand(client: httpx.Client) -> None:
    before = models(client)
    assert next(iter(before)) == "small"  # the default, by its alias
    assert (before["small"]["ready"], before["small"]["aliases"]) == (True, ["default", "stable"])
    assert (before["small"]["default_steps"], before["small"]["description"]) == (2, "a small one")
    assert (before["large"]["ready"], before["large"]["on_demand"]) == (False, True)
    assert before["large"]["family"] == "sdxl"
    assert (before[EXTRA]["default_sampler"], before[EXTRA]["default_steps"]) == ("lcm", 4)
    assert generate(client, model="large")["images"]
    assert wait_for_ready(client, "small", "large")["large"]["workers"] == 1
    assert generate(client, model="small")["images"]


def test_least_recently_used_model_is_evicted(client: httpx.Client) -> None:
    first = generate(client, model="large")["images"][0]["base64"]
    wait_for_ready(client, "small", "large")
    generate(client, model=EXTRA)
    wait_for_ready(client, "small", EXTRA)
    again = generate(client, model="large")["images"][0]["base64"]
    assert again == first  # a model that is loaded again gives the same image
    wait_for_ready(client, "small", "large")


def test_unet_of_a_model_can_be_replaced(client: httpx.Client) -> None:
    images = [generate(client, model=name)["images"][0]["base64"] for name in ("small", EXTRA)]
    assert images[0] != images[1]


def test_model_can_be_named_by_an_alias(client: httpx.Client) -> None:
    images = [
        generate(client, **named)["images"][0]["base64"]
        for named in ({"model": "small"}, {"model": "default"}, {})
    ]
    assert len(set(images)) == 1
    refused = client.post("/v1/txt2img", json={**FIELDS, "model": "unknown"}).json()
    assert (refused["field"], refused["value"]) == ("model", "unknown")


def test_jobs_of_a_broken_model_fail_with_the_reason(client: httpx.Client) -> None:
    response = client.post("/v1/txt2img", json={**FIELDS, "model": "broken"})
    assert response.status_code == 500
    problem = json.dumps(response.json())
    assert "the model broken cannot be loaded" in problem
    assert "diffusion_pytorch_model.safetensors" in problem
    assert "its tensors end" in problem
    assert generate(client)["images"]
    assert "its tensors end" in models(client)["broken"]["trouble"]


def test_all_models_share_the_worker(client: httpx.Client) -> None:
    from PIL import Image

    image = encoded(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
    for name in ("small", "large"):
        body = {**FIELDS, "model": name, "image": image, "strength": 0.9}
        response = client.post("/v1/img2img", json=body)
        assert response.status_code == 200, response.text
