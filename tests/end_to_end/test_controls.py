"""ControlNets through HTTP, Redis, a worker and two networks, and back."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import ControlImage, SamplingParams
from models.loading.controlnets import ControlNets
from models.loading.loader import load_model
from tests.end_to_end.test_tasks import COMMON, SIZE, encoded
from tests.end_to_end.test_tasks import picture as opened
from tests.models.pipeline.test_pipeline import ours
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd, write_tiny_sdxl


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' home with two ControlNets of which one is for another model."""
    home = tmp_path_factory.mktemp("home")
    model = write_tiny_sd(home / "models/tiny")
    other = write_tiny_sdxl(tmp_path_factory.mktemp("other"))
    write_tiny_controlnet(home / "controlnets/edges", model)
    write_tiny_controlnet(home / "controlnets/elsewhere", other)
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx.Client]:
    settings = {"DARKROOM_MODEL": str(home / "models/tiny"), "DARKROOM_MODELS_HOME": str(home)}
    with (
        running_stack(**settings, DARKROOM_WORKER_EXECUTOR="eager") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def lines() -> Image.Image:
    y, x = np.mgrid[:32, :48]
    return Image.fromarray((((x + y) % 11 < 3) * 255).astype(np.uint8)).convert("RGB")


def drawn(client: httpx.Client, controls: list[dict[str, Any]]) -> Any:
    answer = client.post("/v1/txt2img", json=COMMON | SIZE | {"controls": controls})
    assert answer.status_code == 200, answer.text
    return np.asarray(opened(client, answer.json()["images"][0]).convert("RGB"))


def card(client: httpx.Client) -> Any:
    [model] = client.get("/v1/models").json()["models"]
    return model


def test_the_card_names_those_that_fit(client: httpx.Client) -> None:
    assert card(client)["controlnets"] == ["edges"]


def test_what_comes_out_is_what_the_networks_draw(client: httpx.Client, home: Path) -> None:
    told = {"model": "edges", "image": encoded(lines()), "weight": 0.8, "end": 0.7}
    pixels = drawn(client, [told])
    model = load_model(str(home / "models/tiny"), torch.device("cpu"))
    net = ControlNets(home / "controlnets").get("edges", model)
    shown = torch.from_numpy(np.array(lines())).permute(2, 0, 1) / 255
    control = ControlImage(net, shown, weight=0.8, interval=(0.0, 0.7))
    said: dict[str, Any] = COMMON | SIZE
    scale = card(client)["default_guidance_scale"]
    recipe = SamplingParams(**said, guidance_scale=scale, controls=(control,))
    assert np.abs(pixels.astype(int) - ours(model, recipe)).max() <= 1
    assert np.abs(pixels.astype(int) - drawn(client, [])).max() > 10
    np.testing.assert_array_equal(pixels, drawn(client, [told]))


def test_in_a_form(client: httpx.Client) -> None:
    fields = {name: str(value) for name, value in (COMMON | SIZE).items()}
    fields["controls"] = json.dumps([{"model": "edges", "weight": 0.8}])
    packed = io.BytesIO()
    lines().save(packed, "PNG")
    answer = client.post(
        "/v1/txt2img", data=fields, files={"control_image_0": ("c.png", packed.getvalue())}
    )
    assert answer.status_code == 200, answer.text
    pixels = np.asarray(opened(client, answer.json()["images"][0]).convert("RGB"))
    in_json = drawn(client, [{"model": "edges", "image": encoded(lines()), "weight": 0.8}])
    np.testing.assert_array_equal(pixels, in_json)


@pytest.mark.parametrize("name", ["elsewhere", "../models/tiny", "none"])
def test_others_are_refused_and_those_that_are_there_are_named(
    client: httpx.Client, name: str
) -> None:
    body = COMMON | SIZE | {"controls": [{"model": name, "image": encoded(lines())}]}
    answer = client.post("/v1/txt2img", json=body)
    assert answer.status_code == 422
    assert "one of edges" in answer.json()["detail"]


def test_one_that_is_added_while_all_runs_can_be_asked_for(
    client: httpx.Client, home: Path
) -> None:
    write_tiny_controlnet(home / "controlnets/late", home / "models/tiny", seed=9)
    deadline = time.monotonic() + 60
    while "late" not in card(client)["controlnets"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    drawn(client, [{"model": "late", "image": encoded(lines())}])
