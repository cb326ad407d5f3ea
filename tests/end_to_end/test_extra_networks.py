"""Tests of LoRAs and a safety checker over HTTP, with a real Redis and worker."""

from __future__ import annotations

import io
import threading
import time
import unicodedata
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
from tests.models.lora import spellings
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
class LoraStack:
    """A local stack with its folder of LoRAs."""

    url: str
    loras: Path
    model: LatentDiffusion

    def post(self, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/txt2img", json=COMMON | fields, timeout=60)

    def image(self, **fields: Any) -> dict[str, Any]:
        response = self.post(**fields)
        assert response.status_code == 200, response.text
        [image] = response.json()["images"]
        assert isinstance(image, dict)
        return image

    def file(self, **fields: Any) -> bytes:
        image = self.image(**fields)
        assert image["finish_reason"] == "success"
        return httpx.get(image["url"], timeout=60).content

    def listed(self) -> list[str]:
        [card] = httpx.get(f"{self.url}/v1/models", timeout=60).json()["models"]
        return list(card["loras"])

    def add(self, name: str, seed: int) -> None:
        layers = layers_of(self.model)
        pairs = spellings.random_pairs(layers, spellings.attention_of(layers), seed=seed)
        file = spellings.save(self.loras / "new.tmp", spellings.kohya(pairs))
        file.rename(self.loras / f"{name}.safetensors")

    def wait_for(self, name: str) -> None:
        """Wait until the LoRA is listed and accepted."""
        deadline = time.monotonic() + APPEARS_WITHIN_S
        while name not in self.listed():
            assert time.monotonic() < deadline, "it was never listed"
            time.sleep(0.1)
        # The service's data about its workers may be older in one response than in another.
        while self.post(**FINE, loras=[{"name": name}]).status_code == 422:
            assert time.monotonic() < deadline, "it was never accepted"
            time.sleep(0.1)


def generate(model: LatentDiffusion, prompt: str, seed: int) -> Pixels:
    params = SamplingParams(
        prompt, width=32, height=32, steps=3, sampler="ddim", schedule="leading",
        guidance_scale=2.0, seed=seed,
    )  # fmt: skip
    *_, last = model.generate([params])
    return model.decode(torch.stack([state.x for state in last]))[0].numpy()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoraStack]:
    folder = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    model = load_model(str(folder), torch.device("cpu"))
    images = (generate(model, str(of["prompt"]), int(str(of["seed"]))) for of in (FLAGGED, FINE))
    write_tiny_safety(folder, *images)
    home = tmp_path_factory.mktemp("home")
    settings = {"DARKROOM_MODEL": str(folder), "DARKROOM_MODELS_HOME": str(home)}
    (home / "loras").mkdir()
    before = LoraStack("", home / "loras", model)
    before.add("pencil", seed=1)
    before.add("oil.paint", seed=2)
    (home / "loras/broken.safetensors").write_bytes(b"nothing")
    with running_stack(**settings, DARKROOM_WORKER_SAFETY="blank") as url:
        yield LoraStack(url, home / "loras", model)


def test_card_lists_compatible_loras(stack: LoraStack) -> None:
    assert set(stack.listed()) >= {"oil.paint", "pencil"}
    assert "broken" not in stack.listed()


def test_lora_of_another_script_is_used_by_its_name(stack: LoraStack) -> None:
    name = "墨絵 Ärger"
    stack.add(unicodedata.normalize("NFD", name), seed=3)  # as macOS names the file
    stack.wait_for(name)
    in_field = stack.file(**FINE, loras=[{"name": name}])
    assert in_field == stack.file(**FINE | {"prompt": f"the <lora:{name}:1>cat"})
    assert in_field != stack.file(**FINE)


def test_weight_of_a_lora_changes_the_image(stack: LoraStack) -> None:
    plain = stack.file(**FINE)
    files = {
        stack.file(**FINE, loras=[{"name": name, "weight": weight}])
        for name in ("pencil", "oil.paint")
        for weight in (0.5, 1.0, -1.0)
    }
    assert len(files | {plain}) == 7
    assert (
        stack.file(**FINE, loras=[{"name": "pencil", "weight": 0}]) != plain
    )  # a different request
    in_prompt = stack.file(**FINE | {"prompt": "the <lora:pencil:0.5>cat"})
    assert in_prompt == stack.file(**FINE, loras=[{"name": "pencil", "weight": 0.5}])


def test_concurrent_requests_equal_requests_alone(stack: LoraStack) -> None:
    sets: list[list[dict[str, Any]]] = [
        [],
        [{"name": "pencil"}],
        [{"name": "oil.paint", "weight": -0.8}],
        [{"name": "pencil", "weight": 0.5}, {"name": "oil.paint"}],
    ]
    expected = [stack.file(**FINE, loras=loras) for loras in sets]
    got: dict[int, bytes] = {}

    def post(number: int) -> None:
        got[number] = stack.file(**FINE, loras=sets[number % len(sets)])

    threads = [threading.Thread(target=post, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[number] for number in range(12)] == 3 * expected


def test_unknown_lora_is_refused_with_the_known_names(stack: LoraStack) -> None:
    for fields in ({"loras": [{"name": "broken"}]}, {"prompt": "<lora:../tiny/unet:1>"}):
        response = stack.post(**FINE | fields)
        assert response.status_code == 422
        assert response.json()["type"] == "urn:darkroom:problem:unknown-lora"
        assert "one of oil.paint, pencil" in response.json()["bound"]
    assert "broken: cannot be read" in stack.post(**FINE, loras=[{"name": "broken"}]).text


def test_lora_can_be_added_and_removed_without_a_restart(stack: LoraStack) -> None:
    stack.add("watercolour", seed=5)
    stack.wait_for("watercolour")
    stack.file(**FINE, loras=[{"name": "watercolour"}])
    (stack.loras / "watercolour.safetensors").unlink()
    deadline = time.monotonic() + APPEARS_WITHIN_S
    while "watercolour" in stack.listed():
        assert time.monotonic() < deadline, "it stayed listed"
        time.sleep(0.1)


def test_only_flagged_image_is_marked_and_blanked(stack: LoraStack) -> None:
    assert stack.image(**FINE)["finish_reason"] == "success"
    image = stack.image(**FLAGGED)
    assert image["finish_reason"] == "content_filtered"
    with Image.open(io.BytesIO(httpx.get(image["url"], timeout=60).content)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
        info = opened.info
    assert pixels.shape == (32, 32, 3)
    grey = (pixels == 128).all(axis=-1)
    assert 0.3 < grey.mean() < 1  # grey except for the text on it
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert info["Seed"] == "11"
