"""Tests of LDM3D over HTTP: images with 16-bit depth files, a tiny decoder, and previews."""

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

FIELDS = {
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
    with (
        running_stack(DARKROOM_MODEL=str(folder)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def generate(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    response = client.post("/v1/txt2img", json=FIELDS | changes)
    assert response.status_code == 200, response.text
    image: dict[str, Any] = response.json()["images"][0]
    return image


def decoded(folder: Path, params: SamplingParams) -> np.ndarray[Any, Any]:
    """Return the decoded image before it is rounded to bytes: (C, H, W) in [0, 1]."""
    model: LatentDiffusion = load_model(str(folder), torch.device("cpu"))
    (last,) = list(model.generate([params]))[-1]
    with torch.inference_mode():
        z = last.x[None] / model.autoencoder.config.scaling_factor
        image = model.autoencoder.decode(z)[0].numpy()
    return np.asarray((image / 2 + 0.5).clip(0, 1))


def test_image_has_a_depth_file(client: httpx.Client, folder: Path) -> None:
    image = generate(client)
    (extra,) = image["extras"]
    content = base64.b64decode(extra["base64"])
    assert (extra["kind"], extra["bytes"]) == ("depth", len(content))
    depth = Image.open(io.BytesIO(content))
    assert (depth.format, depth.mode, depth.size) == ("PNG", "I;16", (48, 32))
    # Beyond RGB, green is the high byte of the depth and blue the low byte.
    channels = (255 * decoded(folder, SamplingParams(**FIELDS))).round()  # type: ignore[arg-type]
    expected = channels[4] * 256 + channels[5]
    apart = np.abs(np.asarray(depth, np.int64) - expected)
    assert (apart > 1).mean() < 0.01  # where rounding differs
    assert np.asarray(depth).std() > 100


def test_depth_has_a_url(client: httpx.Client) -> None:
    inline, linked = generate(client), generate(client, response="url")
    (extra,) = linked["extras"]
    assert extra["url"] == f"{linked['url'].removesuffix('.png')}/depth.png"
    response = client.get(extra["url"])
    assert response.headers["Content-Type"] == "image/png"
    assert response.content == base64.b64decode(inline["extras"][0]["base64"])
    assert client.get(f"{linked['url']}/sound").status_code in (404, 422)


def test_tiny_decoder_gives_no_depth(client: httpx.Client) -> None:
    full, tiny = generate(client), generate(client, decoder="tiny")
    assert "extras" not in tiny
    assert tiny["base64"] != full["base64"]
    depth = client.get(f"/v1/jobs/{'0' * 32}/images/0/depth")
    assert depth.status_code == 404


def test_card_lists_outputs_and_decoders(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model["outputs"] == ["image", "depth"]
    assert model["decoders"] == ["full", "tiny"]
    assert model["tasks"] == ["txt2img"]


def test_running_job_has_previews(client: httpx.Client) -> None:
    body = FIELDS | {"steps": 60, "n": 2, "previews": True}
    submitted = client.post("/v1/txt2img", json=body, headers={"Prefer": "respond-async"})
    path = submitted.headers["Location"]
    streamed, polled = [], []
    with client.stream("GET", f"{path}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data: "):
                progress = json.loads(line.removeprefix("data: ")).get("progress") or {}
                if preview := progress.get("preview"):
                    streamed.append(base64.b64decode(preview))
                    running = client.get(path).json().get("progress") or {}
                    polled += [base64.b64decode(running["preview"])] if "preview" in running else []
    assert streamed
    assert polled
    assert len(streamed) < 60  # not with every step
    for jpeg in (*streamed, *polled):
        preview = Image.open(io.BytesIO(jpeg))
        assert (preview.format, preview.size) == ("JPEG", (48, 32))
    job = client.get(path).json()
    assert job["state"] == "finished"
    assert "preview" not in (job.get("progress") or {})
