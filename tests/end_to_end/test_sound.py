"""Tests of a spectrogram model over HTTP: images with sound files."""

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
import soundfile
from PIL import Image

from models.sound import synthesise
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd

FIELDS = {
    "prompt": "the red cat", "width": 48, "height": 32, "steps": 2, "seed": 9, "n": 2,
    "sampler": "ddim", "schedule": "leading", "guidance_scale": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = write_tiny_sd(tmp_path_factory.mktemp("models") / "tunes")
    (folder / "darkroom.json").write_text(json.dumps({"family": "riffusion"}), "utf-8")
    with (
        running_stack(DARKROOM_MODEL=str(folder)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def generate(client: httpx.Client, **changes: Any) -> list[dict[str, Any]]:
    response = client.post("/v1/txt2img", json=FIELDS | changes)
    assert response.status_code == 200, response.text
    images: list[dict[str, Any]] = response.json()["images"]
    return images


def test_each_image_has_a_sound_file(client: httpx.Client) -> None:
    images = generate(client, audio_format="flac")
    for image in images:
        (extra,) = image["extras"]
        content = base64.b64decode(extra["base64"])
        assert (extra["kind"], extra["format"], extra["bytes"]) == ("sound", "flac", len(content))
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
        assert rate == 44100
        opened = Image.open(io.BytesIO(base64.b64decode(image["base64"])))
        assert opened.getexif()[11040] == 32
        expected = synthesise(np.asarray(opened), image["seed"])[:, 0]
        assert np.abs(samples / 32768 - expected).max() < 1e-3
    assert images[0]["extras"][0]["base64"] != images[1]["extras"][0]["base64"]


def test_sound_has_a_url(client: httpx.Client) -> None:
    (image,) = generate(client, n=1, audio_format="mp3", audio_stereo=True, response="url")
    (extra,) = image["extras"]
    assert extra["url"] == f"{image['url'].removesuffix('.png')}/sound.mp3"
    response = client.get(extra["url"])
    assert response.headers["Content-Type"] == "audio/mpeg"
    samples, _ = soundfile.read(io.BytesIO(response.content))
    assert samples.shape[1] == 2
    assert client.get(f"{image['url'].removesuffix('.png')}/depth").status_code == 404


def test_no_sound_file_by_default(client: httpx.Client) -> None:
    assert all("extras" not in image for image in generate(client))
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["family"], model["outputs"]) == ("riffusion", ["image", "sound"])
