"""Inpainting through the engine: unmarked pixels come back exactly, marked ones are generated."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.loading.controlnets import ControlNets
from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.request.request import ControlUse, Decoder, LoraUse, Task
from protocol.request.samplers import SAMPLER_TITLES
from tests.models.lora import spellings
from tests.models.published import small_models
from tests.support.tiny_models import (
    write_tiny_controlnet,
    write_tiny_inpainting,
    write_tiny_sd,
    write_tiny_sdxl,
    write_tiny_vae,
)
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob, Pixels
from worker.model_manager.tiling import with_tiles

FACTOR = 4  # pixels along a side of a latent, of all these models
Mask = NDArray[np.uint8]


def load_four_channels(folder: Path) -> LatentDiffusion:
    """Load a model with a LoRA, a ControlNet and a tiny autoencoder; large images are tiled."""
    write_tiny_sd(folder / "sd")
    write_tiny_vae(folder / "sd/tiny_vae")
    model = with_tiles(load_model(str(folder / "sd"), torch.device("cpu")), 32)
    pairs = spellings.random_pairs(layers_of(model), spellings.attention_of(layers_of(model)))
    (folder / "loras").mkdir()
    spellings.save(folder / "loras/style.safetensors", spellings.kohya(pairs))
    write_tiny_controlnet(folder / "controlnets/edges", folder / "sd")
    return model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusionEngine:
    folder = tmp_path_factory.mktemp("models")
    models = {"four": load_four_channels(folder)}
    for name, write in (
        ("nine", write_tiny_inpainting),
        ("xl", write_tiny_sdxl),
        ("paper", small_models.write_inpainting),
    ):
        models[name] = load_model(str(write(folder / name)), torch.device("cpu"))
    return DiffusionEngine(
        {name: unmeasured(model, 4) for name, model in models.items()},
        max_slots=4,
        merged_loras=MergedLoras(LoraRegistry(folder / "loras"), 64 * MIB),
        controlnets=ControlNets(folder / "controlnets"),
    )


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Inpainting:
    """An inpainting request: (H, W, 3) pixels, an (H, W) mask, and further fields."""

    image: NDArray[np.uint8]
    mask: Mask
    fields: dict[str, Any]

    def run(self, engine: DiffusionEngine, **changes: Any) -> list[Pixels]:
        height, width = self.mask.shape
        fields = {"task": Task.INPAINT, "image_key": KEY, "mask_key": KEY, "strength": 1.0}
        fields |= {"width": width, "height": height, **self.fields, **changes}
        one, listener = request(**fields), RecordingListener()
        image = png(self.image)
        engine.prepare(one)
        engine.admit(
            AdmittedJob(
                "job", one, image, png(self.mask), listener, controls=(image,) * len(one.controls)
            )
        )
        run(engine)
        return [pixels for pixels, _ in listener.images.values()]


def noise(width: int, height: int, seed: int, low: int = 0, high: int = 256) -> Any:
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


EXTRAS: dict[str, list[dict[str, Any]]] = {
    "four": [
        {},
        {"decoder": Decoder.TINY},
        {"loras": (LoraUse(name="style", weight=0.8),)},
        {"controls": (ControlUse(model="edges", image_key=KEY),)},
        {"prompt": "", "guidance_scale": 1.0},
    ],
    "nine": [{}, {"guidance_scale": 1.0}],
    "xl": [{}],
    "paper": [{"prompt": "", "guidance_scale": 1.0}],
}


@st.composite
def inpaintings(draw: st.DrawFn) -> Inpainting:
    """Draw requests for all models, with masks of rectangles and lines in any grey."""
    model = draw(st.sampled_from(sorted(EXTRAS)))
    width, height = (draw(st.sampled_from((16, 32, 48))) for _ in "wh")
    mask = np.full((height, width), draw(st.sampled_from((0, 0, 127, 255))), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        right, bottom = left + draw(st.integers(1, width)), top + draw(st.integers(1, 5))
        mask[top:bottom, left:right] = draw(st.sampled_from((0, 1, 127, 128, 200, 255)))
    fields = {
        "model": model,
        "sampler": draw(st.sampled_from(sorted(SAMPLER_TITLES))),
        "schedule": draw(st.sampled_from(("leading", "trailing", "karras"))),
        "steps": draw(st.integers(2, 3)),
        "strength": draw(st.sampled_from((0.5, 0.8, 1.0))),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "n": draw(st.integers(1, 2)),
        **draw(st.sampled_from(EXTRAS[model])),
    }
    return Inpainting(noise(width, height, draw(st.integers(0, 99))), mask, fields)


@settings(max_examples=30)
@given(inpaintings())
def test_nothing_outside_the_mask_changes(engine: DiffusionEngine, inpainting: Inpainting) -> None:
    for pixels in inpainting.run(engine):
        kept = inpainting.mask < 128
        np.testing.assert_array_equal(pixels[kept], inpainting.image[kept])


@settings(max_examples=10)
@given(st.data())
def test_any_marked_pixel_is_generated(engine: DiffusionEngine, data: st.DataObject) -> None:
    """A single marked pixel depends on the prompt, so more than its own image was decoded."""
    model = data.draw(st.sampled_from(("four", "nine", "xl")))
    x, y = data.draw(st.integers(0, 31)), data.draw(st.integers(0, 31))
    mask = np.zeros((32, 32), np.uint8)
    mask[y, x] = data.draw(st.sampled_from((128, 255)))
    sampler = data.draw(st.sampled_from(sorted(SAMPLER_TITLES)))
    fields = {"model": model, "sampler": sampler, "schedule": "trailing", "guidance_scale": 20.0}
    inpainting = Inpainting(noise(32, 32, x, 60, 190), mask, fields)
    images = [
        inpainting.run(engine, prompt=prompt, steps=2)[0]
        for prompt in ("the red cat", "a the a the a", "")
    ]
    values = {tuple(pixels[y, x]) for pixels in images}
    assert len(values) > 1
    assert tuple(inpainting.image[y, x]) not in values


@pytest.mark.parametrize("model", sorted(EXTRAS))
@pytest.mark.parametrize("offset", range(FACTOR))
def test_one_pixel_stripes_are_generated(engine: DiffusionEngine, model: str, offset: int) -> None:
    mask = np.zeros((32, 48), np.uint8)
    mask[8 + offset] = mask[:, 20 + offset] = 255
    image = noise(48, 32, 3, 60, 190)
    inpainting = Inpainting(image, mask, {"model": model, **EXTRAS[model][-1]})
    (pixels,) = inpainting.run(engine)
    changed = (pixels != image).any(axis=2)
    np.testing.assert_array_equal(changed, mask > 0)


@pytest.mark.parametrize("model", sorted(EXTRAS))
def test_mask_without_marked_pixels_gives_the_image_back(
    engine: DiffusionEngine, model: str
) -> None:
    image = noise(48, 32, 5)
    black = Inpainting(image, np.zeros((32, 48), np.uint8), {"model": model, **EXTRAS[model][-1]})
    (pixels,) = black.run(engine)
    np.testing.assert_array_equal(pixels, image)
