"""Jobs with LoRAs, and without, share the engine: each is drawn as if it were alone."""

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
from tests.models.lora import spellings as spelled
from tests.support.tiny_models import write_tiny_sd
from tests.worker.engine.test_engine import Heard, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob, Pixels

SLOTS = 6


@pytest.fixture(scope="module")
def lone_model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    """A model whose files are gone: what is drawn with it can only come from memory."""
    folder = write_tiny_sd(tmp_path_factory.mktemp("lone") / "sd")
    model = load_model(str(folder), torch.device("cpu"))
    shutil.rmtree(folder)
    return model


@pytest.fixture(scope="module")
def home(lone_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three LoRAs: of attention and the text encoder, of convolutions, of one layer."""
    folder = tmp_path_factory.mktemp("loras")
    layers = layers_of(lone_model)
    convolutions = [layer for layer, shape in layers.shapes.items() if shape[2:] == (3, 3)]
    chosen = {
        "attention": spelled.attention_of(layers),
        "convolutions": convolutions,
        "one": [(UNET, "mid_block.attentions.0.proj_in")],
    }
    for seed, (name, of) in enumerate(chosen.items()):
        pairs = spelled.random_pairs(layers, of, seed=seed)
        spelled.save(folder / f"{name}.safetensors", spelled.kohya(pairs))
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


def job(engine: DiffusionEngine, name: str, loras: dict[str, float], **changes: object) -> Heard:
    uses = tuple(LoraUse(name=lora, weight=weight) for lora, weight in loras.items())
    heard = Heard()
    asked = request(loras=uses, **changes)
    engine.prepare(asked)
    engine.admit(AdmittedJob(name, asked, None, None, heard))
    return heard


def picture(
    model: LatentDiffusion, home: Path, loras: dict[str, float], **changes: object
) -> Pixels:
    """Drawn alone."""
    engine, _ = engine_of(model, home)
    heard = job(engine, "alone", loras, **changes)
    run(engine)
    return heard.images[0][0]


def test_a_mixed_stream_gives_what_each_gives_alone(
    lone_model: LatentDiffusion, home: Path
) -> None:
    dice = random.Random(8)
    kinds: list[dict[str, object]] = [
        {"seed": 2, "steps": 3, "sampler": "ddim", "schedule": "leading"},
        {"seed": 3, "steps": 2, "guidance_scale": 1.0, "prompt": "the red cat"},
    ]
    wanted = {
        (s, k): picture(lone_model, home, loras, **kind)
        for s, loras in enumerate(SETS)
        for k, kind in enumerate(kinds)
    }
    assert len({pixels.tobytes() for pixels in wanted.values()}) == len(wanted)
    # So little memory that variants come and go while others are drawn with.
    engine, variants = engine_of(lone_model, home, mib=1)
    waiting = [*wanted, *dice.sample(list(wanted), 5)]
    dice.shuffle(waiting)
    heard = []
    while waiting or not engine.idle:
        while waiting and engine.free_slots and dice.random() < 0.7:
            s, k = waiting.pop()
            name = f"{len(waiting)}"
            heard.append(((s, k), job(engine, name, SETS[s], **kinds[k])))
        engine.step()
    assert len(heard) == len(wanted) + 5
    for choice, told in heard:
        np.testing.assert_array_equal(told.images[0][0], wanted[choice])
    # The largest alone takes more than there is; all of them would take twice that.
    assert variants.nbytes < 3 * MIB


def test_openvino_draws_variants_as_eager_does(
    lone_model: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    run = OpenVino(denoiser(lone_model.unet), torch.float32, tmp_path)
    fast = replace(lone_model, executors=replace(lone_model.executors, denoiser=run))
    loras = {"attention": 0.5, "convolutions": 1.0}
    by_openvino, by_eager = (picture(m, home, loras) for m in (fast, lone_model))
    np.testing.assert_allclose(by_openvino, by_eager.astype(float), atol=1)
    engine, variants = engine_of(fast, home, mib=64)
    job(engine, "kept", loras)
    whole = sum(p.nbytes for p in lone_model.unet.parameters())
    assert variants.nbytes > whole  # a graph has all the weights
    engine, variants = engine_of(fast, home, mib=0)
    job(engine, "too large for a graph", loras)
    assert variants.nbytes < whole


def test_a_variant_shares_what_it_does_not_change(lone_model: LatentDiffusion, home: Path) -> None:
    engine, variants = engine_of(lone_model, home)
    job(engine, "one", {"one": 1.0})
    [slot] = engine._slots
    assert slot.model is not lone_model
    layer = lone_model.unet.mid_block.get_submodule("attentions.0.proj_in")
    assert variants.nbytes == layer.weight.nbytes
    changed = [
        name
        for name, parameter in slot.model.unet.named_parameters()
        if parameter.data_ptr() != lone_model.unet.get_parameter(name).data_ptr()
    ]
    assert changed == ["mid_block.attentions.0.proj_in.weight"]


def test_variants_are_merged_once_and_forgotten_without_a_trace(
    lone_model: LatentDiffusion, home: Path
) -> None:
    engine, variants = engine_of(lone_model, home, mib=0)
    job(engine, "first", {"one": 1.0})
    job(engine, "again", {"one": 1.0}, seed=9)
    first, again = engine._slots
    assert first.model is again.model
    assert first.model.unet is not lone_model.unet
    gone = weakref.ref(first.model)
    job(engine, "other", {"attention": 1.0})
    assert variants.nbytes > 0  # the one used last stays
    assert gone() is not None  # it is still drawn with
    del first, again
    run(engine)
    assert gone() is None
    engine.remove("tiny")
    assert variants.nbytes == 0


def test_the_order_of_loras_and_those_of_weight_0_do_not_matter(
    lone_model: LatentDiffusion, home: Path
) -> None:
    one = picture(lone_model, home, {"attention": 0.5, "convolutions": 1.0, "one": 0.3})
    other = picture(lone_model, home, {"one": 0.3, "convolutions": 1.0, "attention": 0.5})
    np.testing.assert_array_equal(one, other)
    engine, variants = engine_of(lone_model, home)
    heard = job(engine, "nothing", {"one": 0.0})
    run(engine)
    np.testing.assert_array_equal(heard.images[0][0], picture(lone_model, home, {}))
    assert variants.nbytes == 0


def test_a_file_written_anew_is_another_lora_and_one_that_is_gone_fails(
    lone_model: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lora.safetensors"
    shutil.copy(home / "attention.safetensors", file)
    before = picture(lone_model, tmp_path, {"lora": 1.0})
    engine, _ = engine_of(lone_model, tmp_path)
    job(engine, "before", {"lora": 1.0})
    shutil.copy(home / "one.safetensors", file)
    after = job(engine, "after", {"lora": 1.0})
    run(engine)
    np.testing.assert_array_equal(after.images[0][0], picture(lone_model, home, {"one": 1.0}))
    assert not np.array_equal(after.images[0][0], before)
    file.unlink()
    with pytest.raises(JobFailed, match="LoRA lora is not here"):
        job(engine, "too late", {"lora": 1.0})
    file.write_bytes(b"not safetensors")
    with pytest.raises(JobFailed, match="cannot be read"):
        job(engine, "spoilt", {"lora": 1.0})


def test_an_engine_without_loras_says_so(lone_model: LatentDiffusion) -> None:
    engine = DiffusionEngine({"tiny": unmeasured(lone_model, 2)}, 2)
    with pytest.raises(JobFailed, match="no LoRAs"):
        job(engine, "any", {"one": 1.0})


def test_threads_that_want_the_same_variant_share_it(
    lone_model: LatentDiffusion, home: Path
) -> None:
    _, variants = engine_of(lone_model, home)
    found: list[LatentDiffusion] = []
    uses = (LoraUse(name="attention"),)

    def want() -> None:
        found.append(variants.get(lone_model, uses))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1
