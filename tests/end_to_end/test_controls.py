"""Tests of ControlNets over HTTP, with a real Redis and worker."""

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
from tests.end_to_end.test_tasks import COMMON, SIZE, encoded, fetch_image
from tests.models.pipeline.test_pipeline import ours
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd, write_tiny_sdxl


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a model store with two ControlNets, of which one is for another model."""
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
        running_stack(**settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def lines() -> Image.Image:
    y, x = np.mgrid[:32, :48]
    return Image.fromarray((((x + y) % 11 < 3) * 255).astype(np.uint8)).convert("RGB")


def generate(client: httpx.Client, controls: list[dict[str, Any]]) -> Any:
    response = client.post("/v1/txt2img", json=COMMON | SIZE | {"controls": controls})
    assert response.status_code == 200, response.text
    return np.asarray(fetch_image(client, response.json()["images"][0]).convert("RGB"))


def card(client: httpx.Client) -> Any:
    [model] = client.get("/v1/models").json()["models"]
    return model


def test_card_lists_compatible_controlnets(client: httpx.Client) -> None:
    assert card(client)["controlnets"] == ["edges"]


def test_image_equals_that_of_the_networks(client: httpx.Client, home: Path) -> None:
    entry = {"model": "edges", "image": encoded(lines()), "weight": 0.8, "end": 0.7}
    pixels = generate(client, [entry])
    model = load_model(str(home / "models/tiny"), torch.device("cpu"))
    net = ControlNets(home / "controlnets").get("edges", model)
    control_image = torch.from_numpy(np.array(lines())).permute(2, 0, 1) / 255
    control = ControlImage(net, control_image, weight=0.8, interval=(0.0, 0.7))
    fields: dict[str, Any] = COMMON | SIZE
    scale = card(client)["default_guidance_scale"]
    params = SamplingParams(**fields, guidance_scale=scale, controls=(control,))
    assert np.abs(pixels.astype(int) - ours(model, params)).max() <= 1
    assert np.abs(pixels.astype(int) - generate(client, [])).max() > 10
    np.testing.assert_array_equal(pixels, generate(client, [entry]))


def test_form_equals_json(client: httpx.Client) -> None:
    fields = {name: str(value) for name, value in (COMMON | SIZE).items()}
    fields["controls"] = json.dumps([{"model": "edges", "weight": 0.8}])
    packed = io.BytesIO()
    lines().save(packed, "PNG")
    response = client.post(
        "/v1/txt2img", data=fields, files={"control_image_0": ("c.png", packed.getvalue())}
    )
    assert response.status_code == 200, response.text
    pixels = np.asarray(fetch_image(client, response.json()["images"][0]).convert("RGB"))
    in_json = generate(client, [{"model": "edges", "image": encoded(lines()), "weight": 0.8}])
    np.testing.assert_array_equal(pixels, in_json)


@pytest.mark.parametrize("name", ["elsewhere", "../models/tiny", "none"])
def test_unknown_controlnet_is_refused_with_the_known_names(
    client: httpx.Client, name: str
) -> None:
    body = COMMON | SIZE | {"controls": [{"model": name, "image": encoded(lines())}]}
    response = client.post("/v1/txt2img", json=body)
    assert response.status_code == 422
    assert "one of edges" in response.json()["detail"]


def test_controlnet_can_be_added_without_a_restart(client: httpx.Client, home: Path) -> None:
    write_tiny_controlnet(home / "controlnets/late", home / "models/tiny", seed=9)
    deadline = time.monotonic() + 60
    while "late" not in card(client)["controlnets"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    generate(client, [{"model": "late", "image": encoded(lines())}])
