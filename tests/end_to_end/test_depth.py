"""LDM3D through HTTP: pictures with their depth, as files of 16 bits; and a tiny decoder."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_ldm3d, write_tiny_vae

RECIPE = {
    "prompt": "the red cat", "width": 48, "height": 32, "steps": 2, "seed": 9,
    "sampler": "ddim", "schedule": "leading", "guidance_scale": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_ldm3d(tmp_path_factory.mktemp("models") / "tiny3d")
    write_tiny_vae(folder / "tiny_vae")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    settings = {"DARKROOM_MODEL": str(folder), "DARKROOM_WORKER_EXECUTOR": "eager"}
    with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def drawn(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/txt2img", json=RECIPE | changes)
    assert answer.status_code == 200, answer.text
    image: dict[str, Any] = answer.json()["images"][0]
    return image


def decoded(folder: Path, recipe: SamplingParams) -> np.ndarray[Any, Any]:
    """What the model itself decodes, before it is bytes: (C, H, W) in [0, 1]."""
    model: LatentDiffusion = load_model(str(folder), torch.device("cpu"))
    (last,) = list(model.generate([recipe]))[-1]
    with torch.inference_mode():
        z = last.x[None] / model.autoencoder.config.scaling_factor
        image = model.autoencoder.decode(z)[0].numpy()
    return np.asarray((image / 2 + 0.5).clip(0, 1))


def test_a_picture_comes_with_its_depth(client: httpx.Client, folder: Path) -> None:
    image = drawn(client)
    (extra,) = image["extras"]
    content = base64.b64decode(extra["base64"])
    assert (extra["kind"], extra["bytes"]) == ("depth", len(content))
    depth = Image.open(io.BytesIO(content))
    assert (depth.format, depth.mode, depth.size) == ("PNG", "I;16", (48, 32))
    # Green is the high byte and blue the low one of what the decoder gives beyond RGB.
    channels = (255 * decoded(folder, SamplingParams(**RECIPE))).round()  # type: ignore[arg-type]
    expected = channels[4] * 256 + channels[5]
    apart = np.abs(np.asarray(depth, np.int64) - expected)
    assert (apart > 1).mean() < 0.01  # but where rounding tips over
    assert np.asarray(depth).std() > 100


def test_depth_is_to_be_had_by_its_address(client: httpx.Client) -> None:
    inline, linked = drawn(client), drawn(client, response="url")
    (extra,) = linked["extras"]
    assert extra["url"] == f"{linked['url']}/depth"
    answer = client.get(extra["url"])
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content == base64.b64decode(inline["extras"][0]["base64"])
    assert client.get(f"{linked['url']}/sound").status_code in (404, 422)


def test_the_tiny_decoder_gives_the_picture_alone(client: httpx.Client) -> None:
    full, tiny = drawn(client), drawn(client, decoder="tiny")
    assert "extras" not in tiny
    assert tiny["base64"] != full["base64"]
    depth = client.get(f"/v1/jobs/{'0' * 32}/images/0/depth")
    assert depth.status_code == 404


def test_the_model_says_what_it_gives_and_what_it_cannot(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model["outputs"] == ["image", "depth"]
    assert model["decoders"] == ["full", "tiny"]
    assert model["tasks"] == ["txt2img"]


def test_a_running_job_shows_how_it_comes_on(client: httpx.Client) -> None:
    body = RECIPE | {"steps": 60, "n": 2, "previews": True}
    submitted = client.post("/v1/txt2img", json=body, headers={"Prefer": "respond-async"})
    path = submitted.headers["Location"]
    shown, polled = [], []
    with client.stream("GET", f"{path}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: ")).get("progress") or {}
                if preview := told.get("preview"):
                    shown.append(base64.b64decode(preview))
                    running = client.get(path).json().get("progress") or {}
                    polled += [base64.b64decode(running["preview"])] if "preview" in running else []
    assert shown
    assert polled
    assert len(shown) < 60  # not with every step
    for jpeg in (*shown, *polled):
        preview = Image.open(io.BytesIO(jpeg))
        assert (preview.format, preview.size) == ("JPEG", (48, 32))
    job = client.get(path).json()
    assert job["state"] == "finished"
    assert "preview" not in (job.get("progress") or {})
