"""Inpainting through the engine: unmarked pixels come back exactly, marked ones are generated."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
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
from protocol.request.inpainting import Paste, PixelBox
from protocol.request.request import ControlUse, Decoder, LoraUse, Task
from protocol.request.samplers import SAMPLER_TITLES
from tests.models.lora import spellings
from tests.models.published import small_models
from tests.support.tiny_models import (
    write_tiny_asymmetric,
    write_tiny_controlnet,
    write_tiny_inpainting,
    write_tiny_sd,
    write_tiny_sdxl,
    write_tiny_vae,
)
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.inputs import inputs_of
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.engine.sampling_params import sampling_params_of
from worker.interfaces import AdmittedJob, Pixels
from worker.model_manager.tiling import with_tiles

FACTOR = 4  # pixels along a side of a latent; of the asymmetric autoencoder 8
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
    write_tiny_asymmetric(write_tiny_sd(folder / "asymmetric"))
    asymmetric = load_model(str(folder / "asymmetric"), torch.device("cpu"))
    models["asymmetric"] = with_tiles(asymmetric, 32)
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
        listener = RecordingListener()
        job = self.job("job", listener, **changes)
        engine.prepare(job.request)
        engine.admit(job)
        run(engine)
        return [pixels for pixels, _ in listener.images.values()]

    def job(self, name: str, listener: RecordingListener, **changes: Any) -> AdmittedJob:
        height, width = self.mask.shape
        fields = {"task": Task.INPAINT, "image_key": KEY, "mask_key": KEY, "strength": 1.0}
        fields |= {"width": width, "height": height, **self.fields, **changes}
        one, image = request(**fields), png(self.image)
        controls = (image,) * len(one.controls)
        return AdmittedJob(name, one, image, png(self.mask), listener, controls=controls)


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
    "asymmetric": [{}, {"mask_mode": "soft"}],
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
    """A single marked pixel is another one than before, and so of no image that was kept.

    It depends on the prompt, too, unless the guidance drives it to the end of the range.
    """
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
    assert tuple(inpainting.image[y, x]) not in values
    assert len(values) > 1 or {*next(iter(values))} <= {0, 255}


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


OPTIONS: list[dict[str, Any]] = [
    {},
    {"mask_mode": "soft"},
    {"masked_content": "noise", "strength": 0.6},
    {"masked_content": "nothing", "strength": 0.6},
    {"noise_multiplier": 0.8},
    {"mask_mode": "soft", "masked_content": "noise", "noise_multiplier": 1.1, "strength": 0.6},
]


@pytest.mark.parametrize("model", ["four", "nine", "asymmetric"])
def test_a_crowd_gives_each_request_the_bytes_it_has_alone(
    engine: DiffusionEngine, model: str
) -> None:
    mask = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    crowd = [
        Inpainting(noise(32, 32, seed), mask, {"model": model, "seed": seed, "steps": 3, **options})
        for seed, options in enumerate(OPTIONS)
    ]
    alone = [inpainting.run(engine)[0] for inpainting in crowd]
    listeners = [RecordingListener() for _ in crowd]
    for number, (one, listener) in enumerate(zip(crowd, listeners, strict=True)):
        engine.admit(one.job(f"job{number}", listener))
        engine.step()
    run(engine)
    together = [listener.images[0][0] for listener in listeners]
    for mine, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len({pixels.tobytes() for pixels in alone}) == len(crowd)


def test_decoders_condition_is_that_of_the_request_alone(engine: DiffusionEngine) -> None:
    """Images with and without a mask, whose decoder reads the mask of those that have one."""
    half = np.zeros((32, 48), np.uint8)
    half[:, 24:] = 255
    fields = {"model": "asymmetric", "seed": 5}
    inpaintings = [Inpainting(noise(48, 32, n), half, fields) for n in range(2)]
    plain = request(**fields, width=48, height=32)
    alone = [one.run(engine)[0] for one in inpaintings]
    listeners = [RecordingListener() for _ in range(4)]
    engine.admit(AdmittedJob("alone", plain, None, None, listeners[0]))
    run(engine)
    alone.append(listeners[0].images[0][0])
    for n, one in enumerate(inpaintings):
        engine.admit(one.job(f"job{n}", listeners[1 + n]))
    engine.admit(AdmittedJob("plain", plain, None, None, listeners[3]))
    run(engine)
    for listener, pixels in zip(listeners[1:], alone, strict=True):
        np.testing.assert_array_equal(listener.images[0][0], pixels)
    model = engine.models["asymmetric"].model
    params = sampling_params_of(inpaintings[0].job("job", listeners[0]))
    (last,) = list(model.generate([replace(params, seed=5)]))[-1]
    with_mask, without = (
        model.postprocess(params, model.decode(last.x[None], given)[0]).numpy()
        for given in (params, None)
    )
    np.testing.assert_array_equal(alone[0], with_mask)
    assert not np.array_equal(with_mask, without)


def test_with_a_paste_the_engine_returns_all_that_it_generated(engine: DiffusionEngine) -> None:
    part = PixelBox(left=0, top=0, width=32, height=32)
    place = Paste(width=32, height=32, used=part, box=part, image_key=KEY, mask_key=KEY)
    one = Inpainting(noise(32, 32, 1), np.zeros((32, 32), np.uint8), {"model": "four"})
    (pixels,) = one.run(engine, paste=place)
    assert not np.array_equal(pixels, one.image)  # the autoencoder changes it


@pytest.mark.parametrize(("mode", "inner"), [("hard", 255), ("soft", 255), ("soft", 90)])
def test_filled_content_has_the_colours_around_it(mode: str, inner: int) -> None:
    image, mask = np.full((64, 64, 3), (20, 120, 220), np.uint8), np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = inner
    image[mask == 255] = 0
    fields = {"masked_content": "fill", "mask_mode": mode}
    job = Inpainting(image, mask, fields).job("job", RecordingListener())
    filled = (inputs_of(job)["image"].numpy() / 2 + 0.5) * 255
    # Levels are lost where alpha is low.
    assert np.abs(filled - np.array((20, 120, 220)).reshape(3, 1, 1)).max() <= 6.01
