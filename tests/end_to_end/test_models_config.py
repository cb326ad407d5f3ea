"""A house with a catalogue: models by name and alias, one loaded on demand, one that is broken."""

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

CATALOGUE = """
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

[models.extra]
source = "sd"
unet = "./quick"

[models.broken]
source = "./broken"
"""
ASKED = {"prompt": "the red cat", "seed": 5, "steps": 2, "sampler": "ddim"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("served")
    home = folder / "home"
    write_tiny_sd(home / "models" / "sd")
    large = write_tiny_sdxl(folder / "xl")
    write_tiny_distilled(write_tiny_sd(folder / "quick"))
    shutil.copytree(write_tiny_sdxl(folder / "yl") / "vae", folder / "other-vae")
    broken = Path(shutil.copytree(large, folder / "broken"))
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    # Room for the one that stays and the largest of the others: two of those never fit together.
    sizes = [
        inspect_checkpoint(str(path)).weights["fp32"] for path in (home / "models" / "sd", large)
    ]
    catalogue = CATALOGUE.format(budget=sizes[0] + max(sizes))
    (folder / "models.toml").write_text(catalogue, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_MODELS_HOME": str(home),
        "DARKROOM_DEFAULT_MODEL": "stable",
        "DARKROOM_WORKER_TUNE_S": "0",
    }
    with running_stack(**settings) as url:
        yield url


@pytest.fixture
def client(house: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house, timeout=60) as client:
        yield client


def models(client: httpx.Client) -> dict[str, Any]:
    listed = client.get("/v1/models").json()["models"]
    return {model["name"]: model for model in listed}


def wait_for_ready(client: httpx.Client, *names: str) -> dict[str, Any]:
    """What is told of the models once exactly these are told to be there: soon, not at once."""
    for _ in range(200):
        told = models(client)
        if {name for name, model in told.items() if model["ready"]} == set(names):
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def drawn(client: httpx.Client, **changes: object) -> Any:
    answer = client.post("/v1/txt2img", json={**ASKED, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_all_that_is_declared_is_offered_and_one_loads_on_demand(client: httpx.Client) -> None:
    before = models(client)
    assert next(iter(before)) == "small"  # the default, by its alias
    assert (before["small"]["ready"], before["small"]["aliases"]) == (True, ["default", "stable"])
    assert (before["small"]["default_steps"], before["small"]["description"]) == (2, "a small one")
    assert (before["large"]["ready"], before["large"]["on_demand"]) == (False, True)
    assert before["large"]["family"] == "sdxl"
    assert (before["extra"]["default_sampler"], before["extra"]["default_steps"]) == ("lcm", 4)
    assert drawn(client, model="large")["images"]
    assert wait_for_ready(client, "small", "large")["large"]["workers"] == 1
    assert drawn(client, model="small")["images"]


def test_where_room_is_needed_the_one_used_last_stays(client: httpx.Client) -> None:
    first = drawn(client, model="large")["images"][0]["base64"]
    wait_for_ready(client, "small", "large")
    drawn(client, model="extra")
    wait_for_ready(client, "small", "extra")
    again = drawn(client, model="large")["images"][0]["base64"]
    assert again == first  # a model that went and came back draws what it drew
    wait_for_ready(client, "small", "large")


def test_another_unet_takes_the_place_of_a_models_own(client: httpx.Client) -> None:
    pictures = [drawn(client, model=name)["images"][0]["base64"] for name in ("small", "extra")]
    assert pictures[0] != pictures[1]


def test_a_model_may_be_called_by_an_alias(client: httpx.Client) -> None:
    pictures = [
        drawn(client, **called)["images"][0]["base64"]
        for called in ({"model": "small"}, {"model": "default"}, {})
    ]
    assert len(set(pictures)) == 1
    refused = client.post("/v1/txt2img", json={**ASKED, "model": "nobody"}).json()
    assert (refused["field"], refused["value"]) == ("model", "nobody")


def test_jobs_of_a_broken_model_fail_with_the_reason(client: httpx.Client) -> None:
    answer = client.post("/v1/txt2img", json={**ASKED, "model": "broken"})
    assert answer.status_code == 500
    said = json.dumps(answer.json())
    assert "the model broken cannot be loaded" in said
    assert "diffusion_pytorch_model.safetensors" in said
    assert "its tensors end" in said
    assert drawn(client)["images"]
    assert "its tensors end" in models(client)["broken"]["trouble"]


def test_every_task_of_every_model_shares_the_worker(client: httpx.Client) -> None:
    from PIL import Image

    image = encoded(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
    for name in ("small", "large"):
        body = {**ASKED, "model": name, "image": image, "strength": 0.9}
        answer = client.post("/v1/img2img", json=body)
        assert answer.status_code == 200, answer.text
