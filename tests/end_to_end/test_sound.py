"""A model of spectrograms through HTTP: pictures that can be heard."""

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

RECIPE = {
    "prompt": "the red cat", "width": 48, "height": 32, "steps": 2, "seed": 9, "n": 2,
    "sampler": "ddim", "schedule": "leading", "guidance_scale": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = write_tiny_sd(tmp_path_factory.mktemp("models") / "tunes")
    (folder / "darkroom.json").write_text(json.dumps({"family": "riffusion"}), "utf-8")
    settings = {"DARKROOM_MODEL": str(folder), "DARKROOM_WORKER_EXECUTOR": "eager"}
    with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def drawn(client: httpx.Client, **changes: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/txt2img", json=RECIPE | changes)
    assert answer.status_code == 200, answer.text
    images: list[dict[str, Any]] = answer.json()["images"]
    return images


def test_each_picture_comes_with_the_sound_it_shows(client: httpx.Client) -> None:
    images = drawn(client, audio_format="flac")
    for image in images:
        (extra,) = image["extras"]
        content = base64.b64decode(extra["base64"])
        assert (extra["kind"], extra["format"], extra["bytes"]) == ("sound", "flac", len(content))
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
        assert rate == 44100
        picture = Image.open(io.BytesIO(base64.b64decode(image["base64"])))
        assert picture.getexif()[11040] == 32
        expected = synthesise(np.asarray(picture), image["seed"])[:, 0]
        assert np.abs(samples / 32768 - expected).max() < 1e-3
    assert images[0]["extras"][0]["base64"] != images[1]["extras"][0]["base64"]


def test_a_sound_is_to_be_had_by_its_address(client: httpx.Client) -> None:
    (image,) = drawn(client, n=1, audio_format="mp3", audio_stereo=True, response="url")
    (extra,) = image["extras"]
    assert extra["url"] == f"{image['url']}/sound"
    answer = client.get(extra["url"])
    assert answer.headers["Content-Type"] == "audio/mpeg"
    samples, _ = soundfile.read(io.BytesIO(answer.content))
    assert samples.shape[1] == 2
    assert client.get(f"{image['url']}/depth").status_code == 404


def test_without_being_asked_nothing_is_heard(client: httpx.Client) -> None:
    assert all("extras" not in image for image in drawn(client))
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["family"], model["outputs"]) == ("riffusion", ["image", "sound"])
