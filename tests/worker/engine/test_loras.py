"""Jobs with and without LoRAs share the engine: each image is the same as alone."""

from __future__ import annotations

import random
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.executors.base import denoiser
from models.executors.openvino import OpenVino
from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import LoraUse
from tests.models.lora import spellings
from tests.support.tiny_models import write_tiny_sd
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob, Pixels

SLOTS = 6


@pytest.fixture(scope="module")
def model_in_memory(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    """Return a model without its files: its images can only come from memory."""
    folder = write_tiny_sd(tmp_path_factory.mktemp("in-memory") / "sd")
    model = load_model(str(folder), torch.device("cpu"))
    shutil.rmtree(folder)
    return model


@pytest.fixture(scope="module")
def home(model_in_memory: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three LoRAs: of attention and the text encoder, of convolutions, of one layer."""
    folder = tmp_path_factory.mktemp("loras")
    layers = layers_of(model_in_memory)
    convolutions = [layer for layer, shape in layers.shapes.items() if shape[2:] == (3, 3)]
    chosen = {
        "attention": spellings.attention_of(layers),
        "convolutions": convolutions,
        "one": [(UNET, "mid_block.attentions.0.proj_in")],
    }
    for seed, (name, of) in enumerate(chosen.items()):
        pairs = spellings.random_pairs(layers, of, seed=seed)
        spellings.save(folder / f"{name}.safetensors", spellings.kohya(pairs))
    return folder


def engine_of(
    model: LatentDiffusion, home: Path, mib: int = 64
) -> tuple[DiffusionEngine, MergedLoras]:
    variants = MergedLoras(LoraRegistry(home), mib * MIB)
    return DiffusionEngine(
        {"tiny": unmeasured(model, SLOTS)}, SLOTS, merged_loras=variants
    ), variants


SETS: list[dict[str, float]] = [
    {},
    {"attention": 1.0},
    {"convolutions": -0.7},
    {"one": 1.5},
    {"attention": 0.5, "convolutions": 1.0},
]


def job(
    engine: DiffusionEngine, name: str, loras: dict[str, float], **changes: object
) -> RecordingListener:
    uses = tuple(LoraUse(name=lora, weight=weight) for lora, weight in loras.items())
    listener = RecordingListener()
    its_request = request(loras=uses, **changes)
    engine.prepare(its_request)
    engine.admit(AdmittedJob(name, its_request, None, None, listener))
    return listener


def generate_image(
    model: LatentDiffusion, home: Path, loras: dict[str, float], **changes: object
) -> Pixels:
    """Generate an image alone."""
    engine, _ = engine_of(model, home)
    listener = job(engine, "alone", loras, **changes)
    run(engine)
    return listener.images[0][0]


def test_a_mixed_stream_gives_what_each_gives_alone(
    model_in_memory: LatentDiffusion, home: Path
) -> None:
    dice = random.Random(8)
    kinds: list[dict[str, object]] = [
        {"seed": 2, "steps": 3, "sampler": "ddim", "schedule": "leading"},
        {"seed": 3, "steps": 2, "guidance_scale": 1.0, "prompt": "the red cat"},
    ]
    wanted = {
        (s, k): generate_image(model_in_memory, home, loras, **kind)
        for s, loras in enumerate(SETS)
        for k, kind in enumerate(kinds)
    }
    assert len({pixels.tobytes() for pixels in wanted.values()}) == len(wanted)
    # So little memory that merged models are evicted while others run.
    engine, variants = engine_of(model_in_memory, home, mib=1)
    waiting = [*wanted, *dice.sample(list(wanted), 5)]
    dice.shuffle(waiting)
    listeners = []
    while waiting or not engine.idle:
        while waiting and engine.free_slots and dice.random() < 0.7:
            s, k = waiting.pop()
            name = f"{len(waiting)}"
            listeners.append(((s, k), job(engine, name, SETS[s], **kinds[k])))
        engine.step()
    assert len(listeners) == len(wanted) + 5
    for choice, listener in listeners:
        np.testing.assert_array_equal(listener.images[0][0], wanted[choice])
    # The largest alone takes more than there is; all of them would take twice that.
    assert variants.nbytes < 3 * MIB


def test_openvino_runs_merged_models_like_eager(
    model_in_memory: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    run = OpenVino(denoiser(model_in_memory.unet), torch.float32, tmp_path)
    fast = replace(model_in_memory, executors=replace(model_in_memory.executors, denoiser=run))
    loras = {"attention": 0.5, "convolutions": 1.0}
    by_openvino, by_eager = (generate_image(m, home, loras) for m in (fast, model_in_memory))
    np.testing.assert_allclose(by_openvino, by_eager.astype(float), atol=1)
    engine, variants = engine_of(fast, home, mib=64)
    job(engine, "kept", loras)
    whole = sum(p.nbytes for p in model_in_memory.unet.parameters())
    assert variants.nbytes > whole  # a graph has all the weights
    engine, variants = engine_of(fast, home, mib=0)
    job(engine, "too large for a graph", loras)
    assert variants.nbytes < whole


def test_merged_model_shares_unchanged_weights(
    model_in_memory: LatentDiffusion, home: Path
) -> None:
    engine, variants = engine_of(model_in_memory, home)
    job(engine, "one", {"one": 1.0})
    [slot] = engine._slots
    assert slot.model is not model_in_memory
    layer = model_in_memory.unet.mid_block.get_submodule("attentions.0.proj_in")
    assert variants.nbytes == layer.weight.nbytes
    changed = [
        name
        for name, parameter in slot.model.unet.named_parameters()
        if parameter.data_ptr() != model_in_memory.unet.get_parameter(name).data_ptr()
    ]
    assert changed == ["mid_block.attentions.0.proj_in.weight"]


def test_models_are_merged_once_and_evicted_completely(
    model_in_memory: LatentDiffusion, home: Path
) -> None:
    engine, variants = engine_of(model_in_memory, home, mib=0)
    job(engine, "first", {"one": 1.0})
    job(engine, "again", {"one": 1.0}, seed=9)
    first, again = engine._slots
    assert first.model is again.model
    assert first.model.unet is not model_in_memory.unet
    gone = weakref.ref(first.model)
    job(engine, "other", {"attention": 1.0})
    assert variants.nbytes > 0  # the one used last stays
    assert gone() is not None  # a slot still uses it
    del first, again
    run(engine)
    assert gone() is None
    engine.remove("tiny")
    assert variants.nbytes == 0


def test_order_of_loras_and_weights_of_0_do_not_matter(
    model_in_memory: LatentDiffusion, home: Path
) -> None:
    one = generate_image(model_in_memory, home, {"attention": 0.5, "convolutions": 1.0, "one": 0.3})
    other = generate_image(
        model_in_memory, home, {"one": 0.3, "convolutions": 1.0, "attention": 0.5}
    )
    np.testing.assert_array_equal(one, other)
    engine, variants = engine_of(model_in_memory, home)
    listener = job(engine, "nothing", {"one": 0.0})
    run(engine)
    np.testing.assert_array_equal(listener.images[0][0], generate_image(model_in_memory, home, {}))
    assert variants.nbytes == 0


def test_rewritten_file_is_another_lora_and_missing_file_fails(
    model_in_memory: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lora.safetensors"
    shutil.copy(home / "attention.safetensors", file)
    before = generate_image(model_in_memory, tmp_path, {"lora": 1.0})
    engine, _ = engine_of(model_in_memory, tmp_path)
    job(engine, "before", {"lora": 1.0})
    shutil.copy(home / "one.safetensors", file)
    after = job(engine, "after", {"lora": 1.0})
    run(engine)
    np.testing.assert_array_equal(
        after.images[0][0], generate_image(model_in_memory, home, {"one": 1.0})
    )
    assert not np.array_equal(after.images[0][0], before)
    file.unlink()
    with pytest.raises(JobFailed, match="LoRA lora is not here"):
        job(engine, "too late", {"lora": 1.0})
    file.write_bytes(b"not safetensors")
    with pytest.raises(JobFailed, match="cannot be read"):
        job(engine, "spoilt", {"lora": 1.0})


def test_engine_without_loras_refuses_them(model_in_memory: LatentDiffusion) -> None:
    engine = DiffusionEngine({"tiny": unmeasured(model_in_memory, 2)}, 2)
    with pytest.raises(JobFailed, match="no LoRAs"):
        job(engine, "any", {"one": 1.0})


def test_threads_share_a_merged_model(model_in_memory: LatentDiffusion, home: Path) -> None:
    _, variants = engine_of(model_in_memory, home)
    found: list[LatentDiffusion] = []
    uses = (LoraUse(name="attention"),)

    def want() -> None:
        found.append(variants.timeline(model_in_memory, uses)[0][1])

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1
