"""Jobs with and without ControlNets share the engine: each image is the same as alone."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.loading.controlnets import ControlNets
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.object_keys import input_key
from protocol.request.request import ControlUse, HiresFix, LoraUse
from tests.models.lora import spellings
from tests.support.tiny_models import write_tiny_controlnet
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob, Pixels

SLOTS = 6


@pytest.fixture(scope="module")
def home(model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_tiny_controlnet(home / "controlnets/edges", model.folder, seed=3)
    write_tiny_controlnet(home / "controlnets/depth", model.folder, seed=4)
    return home


def png(turn: int) -> bytes:
    y, x = np.mgrid[:32, :32]
    lines = (((x + (turn + 1) * y) % 11 < 3) * 255).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(lines).convert("RGB").save(packed, "PNG")
    return packed.getvalue()


def engine_of(model: LatentDiffusion, home: Path) -> DiffusionEngine:
    nets = ControlNets(home / "controlnets")
    return DiffusionEngine({"tiny": unmeasured(model, SLOTS)}, SLOTS, controlnets=nets)


Wanted = tuple[tuple[str, float, float, float], ...]  # of each control: model, weight, start, end

SETS: list[Wanted] = [
    (),
    (("edges", 1.0, 0.0, 1.0),),
    (("edges", 0.5, 0.3, 1.0),),
    (("depth", 1.0, 0.0, 0.7),),
    (("edges", 1.0, 0.0, 0.6), ("depth", 0.5, 0.3, 1.0)),
]


def job(engine: DiffusionEngine, name: str, wanted: Wanted, **changes: object) -> RecordingListener:
    images = [png(i) for i in range(len(wanted))]
    controls = tuple(
        ControlUse(model=net, image_key=input_key(shown), weight=weight, start=start, end=end)
        for (net, weight, start, end), shown in zip(wanted, images, strict=True)
    )
    listener = RecordingListener()
    one = request(controls=controls, **changes)
    engine.prepare(one)
    engine.admit(AdmittedJob(name, one, None, None, listener, controls=tuple(images)))
    return listener


def generate_image(model: LatentDiffusion, home: Path, wanted: Wanted, **changes: object) -> Pixels:
    """Generate an image alone."""
    engine = engine_of(model, home)
    listener = job(engine, "alone", wanted, **changes)
    run(engine)
    return listener.images[0][0]


def test_a_mixed_stream_gives_what_each_gives_alone(model: LatentDiffusion, home: Path) -> None:
    dice = random.Random(8)
    kinds: list[dict[str, object]] = [
        {"seed": 1, "steps": 3},
        {"seed": 2, "steps": 4, "guidance_scale": 1.0, "prompt": "the red cat"},
    ]
    expected = {
        (s, k): generate_image(model, home, wanted, **kind)
        for s, wanted in enumerate(SETS)
        for k, kind in enumerate(kinds)
    }
    assert len({pixels.tobytes() for pixels in expected.values()}) == len(expected)
    engine = engine_of(model, home)
    waiting = list(expected)
    dice.shuffle(waiting)
    listeners = []
    while waiting or not engine.idle:
        while waiting and engine.free_slots and dice.random() < 0.7:
            s, k = waiting.pop()
            listeners.append(((s, k), job(engine, f"{len(waiting)}", SETS[s], **kinds[k])))
        engine.step()
    assert len(listeners) == len(expected)
    for choice, listener in listeners:
        np.testing.assert_array_equal(listener.images[0][0], expected[choice])


def test_images_outside_their_control_interval_share_steps_with_others(
    model: LatentDiffusion, home: Path
) -> None:
    engine = engine_of(model, home)
    job(engine, "free", (), steps=4)
    job(engine, "controlled", (("edges", 1.0, 0.5, 1.0),), steps=4)
    rows = []
    while not engine.idle:
        engine.step()
        rows.append(engine.stats.rows)
    assert rows[:2] == [4, 4]  # both images, guided
    assert sorted(rows[2:6]) == [2, 2, 2, 2]  # then each by itself


def test_larger_second_pass_uses_the_controls(model: LatentDiffusion, home: Path) -> None:
    second = HiresFix(width=64, height=64, steps=4, strength=0.5)
    plain, controlled = (
        generate_image(model, home, wanted, steps=2, enlargement=second)
        for wanted in (SETS[0], SETS[1])
    )
    assert plain.shape == controlled.shape == (64, 64, 3)
    assert np.abs(plain.astype(int) - controlled.astype(int)).max() > 10


def test_control_runs_with_a_merged_model(
    model: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    layers = layers_of(model)
    pairs = spellings.random_pairs(layers, spellings.attention_of(layers), seed=1)
    spellings.save(tmp_path / "pencil.safetensors", spellings.kohya(pairs))
    nets, resident = ControlNets(home / "controlnets"), unmeasured(model, SLOTS)
    variants = MergedLoras(LoraRegistry(tmp_path), 64 * MIB)
    engine = DiffusionEngine({"tiny": resident}, SLOTS, controlnets=nets, merged_loras=variants)
    lora = (LoraUse(name="pencil"),)
    listeners = [
        job(engine, f"{i}", wanted, steps=3, loras=loras)
        for i, (wanted, loras) in enumerate(
            [(SETS[0], ()), (SETS[1], ()), (SETS[0], lora), (SETS[1], lora)]
        )
    ]
    run(engine)
    images = [listener.images[0][0].astype(int) for listener in listeners]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert np.abs(one - other).max() > 0
    np.testing.assert_array_equal(images[1], generate_image(model, home, SETS[1], steps=3))


def test_removed_controlnet_fails_only_its_job(
    model: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home, tmp_path / "home")
    engine = engine_of(model, tmp_path / "home")
    shutil.rmtree(tmp_path / "home/controlnets/depth")
    with pytest.raises(JobFailed, match="no ControlNet is called 'depth'"):
        job(engine, "gone", SETS[3])
    weights = tmp_path / "home/controlnets/edges/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(JobFailed):
        job(engine, "broken", SETS[1])
    listener = job(engine, "fine", ())
    run(engine)
    assert len(listener.images) == 1


def test_worker_without_controlnets_refuses_them(model: LatentDiffusion) -> None:
    engine = DiffusionEngine({"tiny": unmeasured(model, SLOTS)}, SLOTS)
    with pytest.raises(JobFailed, match="no ControlNets"):
        job(engine, "none", SETS[1])


def test_folder_lists_the_controlnets_that_fit(
    model: LatentDiffusion, home: Path, tmp_path: Path
) -> None:
    assert ControlNets(home / "controlnets").fitting(model) == ("depth", "edges")
    nets = ControlNets(tmp_path / "controlnets")
    assert nets.fitting(model) == ()
    write_tiny_controlnet(tmp_path / "controlnets/late", model.folder)
    assert nets.fitting(model) == ("late",)
