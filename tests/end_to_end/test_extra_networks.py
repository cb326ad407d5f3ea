"""LoRAs and a safety checker in a whole house: asked for, told of, drawn with, looked at."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings as spelled
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd
from tests.support.tiny_safety import write_tiny_safety
from worker.interfaces import Pixels

COMMON = {"steps": 3, "sampler": "ddim", "schedule": "leading", "guidance_scale": 2.0,
          "width": 32, "height": 32, "response": "url"}  # fmt: skip
FLAGGED = {"prompt": "the red cat", "seed": 11}
FINE = {"prompt": "the cat", "seed": 7}
APPEARS_WITHIN_S = 60.0


@dataclass(frozen=True)
class LocalStack:
    url: str
    loras: Path
    model: LatentDiffusion

    def ask(self, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/txt2img", json=COMMON | fields, timeout=60)

    def image(self, **fields: Any) -> dict[str, Any]:
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        [image] = answer.json()["images"]
        assert isinstance(image, dict)
        return image

    def file(self, **fields: Any) -> bytes:
        image = self.image(**fields)
        assert image["finish_reason"] == "success"
        return httpx.get(image["url"]).content

    def offered(self) -> list[str]:
        [card] = httpx.get(f"{self.url}/v1/models").json()["models"]
        return list(card["loras"])

    def add(self, name: str, seed: int) -> None:
        layers = layers_of(self.model)
        pairs = spelled.random_pairs(layers, spelled.attention_of(layers), seed=seed)
        file = spelled.save(self.loras / "new.tmp", spelled.kohya(pairs))
        file.rename(self.loras / f"{name}.safetensors")


def drawn(model: LatentDiffusion, prompt: str, seed: int) -> Pixels:
    recipe = SamplingParams(
        prompt, width=32, height=32, steps=3, sampler="ddim", schedule="leading",
        guidance_scale=2.0, seed=seed,
    )  # fmt: skip
    *_, last = model.generate([recipe])
    return model.decode(torch.stack([t.x for t in last]))[0].numpy()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    model = load_model(str(folder), torch.device("cpu"))
    pictures = (drawn(model, str(of["prompt"]), int(str(of["seed"]))) for of in (FLAGGED, FINE))
    write_tiny_safety(folder, *pictures)
    home = tmp_path_factory.mktemp("home")
    settings = {"DARKROOM_MODEL": str(folder), "DARKROOM_MODELS_HOME": str(home)}
    (home / "loras").mkdir()
    there = LocalStack("", home / "loras", model)
    there.add("pencil", seed=1)
    there.add("oil.paint", seed=2)
    (home / "loras/broken.safetensors").write_bytes(b"nothing")
    with running_stack(**settings, DARKROOM_WORKER_SAFETY="blank") as url:
        yield LocalStack(url, home / "loras", model)


def test_a_model_tells_which_loras_fit_it(house: LocalStack) -> None:
    assert set(house.offered()) >= {"oil.paint", "pencil"}
    assert "broken" not in house.offered()


def test_a_lora_changes_the_picture_by_its_weight(house: LocalStack) -> None:
    plain = house.file(**FINE)
    files = {
        house.file(**FINE, loras=[{"name": name, "weight": weight}])
        for name in ("pencil", "oil.paint")
        for weight in (0.5, 1.0, -1.0)
    }
    assert len(files | {plain}) == 7
    assert house.file(**FINE, loras=[{"name": "pencil", "weight": 0}]) != plain  # another recipe
    in_prompt = house.file(**FINE | {"prompt": "the <lora:pencil:0.5>cat"})
    assert in_prompt == house.file(**FINE, loras=[{"name": "pencil", "weight": 0.5}])


def test_requests_at_the_same_time_give_what_each_gives_alone(house: LocalStack) -> None:
    sets: list[list[dict[str, Any]]] = [
        [],
        [{"name": "pencil"}],
        [{"name": "oil.paint", "weight": -0.8}],
        [{"name": "pencil", "weight": 0.5}, {"name": "oil.paint"}],
    ]
    wanted = [house.file(**FINE, loras=loras) for loras in sets]
    got: dict[int, bytes] = {}

    def ask(number: int) -> None:
        got[number] = house.file(**FINE, loras=sets[number % len(sets)])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[number] for number in range(12)] == 3 * wanted


def test_what_there_is_not_is_refused_naming_what_there_is(house: LocalStack) -> None:
    for fields in ({"loras": [{"name": "broken"}]}, {"prompt": "<lora:../tiny/unet:1>"}):
        answer = house.ask(**FINE | fields)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:darkroom:problem:unknown-lora"
        assert "one of oil.paint, pencil" in answer.json()["bound"]


def test_a_file_that_is_added_is_offered_without_a_restart(house: LocalStack) -> None:
    house.add("watercolour", seed=5)
    deadline = time.monotonic() + APPEARS_WITHIN_S
    while "watercolour" not in house.offered():
        assert time.monotonic() < deadline, "it never appeared"
        time.sleep(0.1)
    # What the service has read of its workers may be older for one answer than for another.
    while house.ask(**FINE, loras=[{"name": "watercolour"}]).status_code == 422:
        assert time.monotonic() < deadline, "it was never taken"
        time.sleep(0.1)
    house.file(**FINE, loras=[{"name": "watercolour"}])
    (house.loras / "watercolour.safetensors").unlink()
    while "watercolour" in house.offered():
        assert time.monotonic() < deadline, "it never went"
        time.sleep(0.1)


def test_a_picture_that_is_flagged_is_told_and_hidden_and_no_other(house: LocalStack) -> None:
    assert house.image(**FINE)["finish_reason"] == "success"
    image = house.image(**FLAGGED)
    assert image["finish_reason"] == "content_filtered"
    with Image.open(io.BytesIO(httpx.get(image["url"]).content)) as shown:
        pixels = np.asarray(shown.convert("RGB"))
        told = shown.info
    assert pixels.shape == (32, 32, 3)
    grey = (pixels == 128).all(axis=-1)
    assert 0.3 < grey.mean() < 1  # plain, but for what is written on it
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert told["Seed"] == "11"
