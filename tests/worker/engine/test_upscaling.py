"""Upscaling in the engine: a tile is a step, and a crowd changes no byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.loading.upscalers import Upscalers
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import HiresFix, Task, Upscaling
from tests.support.tiny_upscalers import write_tiny_compact, write_tiny_rrdb
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def upscalers(tmp_path_factory: pytest.TempPathFactory) -> Upscalers:
    folder = tmp_path_factory.mktemp("upscalers")
    write_tiny_compact(folder / "four")
    write_tiny_rrdb(folder / "two")
    return Upscalers(folder, CPU, torch.float32)


def png(width: int, height: int) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def upscale(
    width: int, height: int, first: str, second: str | None = None, blend: float = 0.5
) -> dict[str, object]:
    return {
        "task": Task.UPSCALE, "width": width, "height": height, "steps": 1, "guidance_scale": 1.0,
        "image_key": KEY,
        "upscaling": Upscaling(upscaler=first, upscaler_2=second, blend=blend),
    }  # fmt: skip


def hires(upscaler: str) -> dict[str, object]:
    larger = HiresFix(width=48, height=64, steps=6, strength=0.5, upscaler=upscaler)
    return {"enlargement": larger}


def generate(
    model: LatentDiffusion, upscalers: Upscalers | None, *jobs: dict[str, object]
) -> list[RecordingListener]:
    engine = DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4, upscalers=upscalers)
    listeners = [RecordingListener() for _ in jobs]
    for number, (job, listener) in enumerate(zip(jobs, listeners, strict=True)):
        image = png(270, 24) if "upscaling" in job else None
        asked = request(**job)
        engine.prepare(asked)
        engine.admit(AdmittedJob(f"job {number}", asked, image, None, listener))
    run(engine)
    return listeners


def test_each_tile_is_a_step(model: LatentDiffusion, upscalers: Upscalers) -> None:
    (listener,) = generate(model, upscalers, upscale(540, 48, "two"))
    assert listener.progress == [(1, 3), (2, 3), (3, 3)]  # two tiles, and the resizing
    assert listener.images[0][0].shape == (48, 540, 3)
    assert listener.timings is not None


def test_crowd_changes_no_byte(model: LatentDiffusion, upscalers: Upscalers) -> None:
    jobs: list[dict[str, object]] = [
        upscale(540, 48, "two"),
        {"steps": 5},
        upscale(405, 36, "four", "two", blend=0.3),
        hires("two"),
        {"enlargement": HiresFix(width=48, height=64, steps=6, strength=0.5)},
        upscale(100, 10, "lanczos"),
        upscale(540, 48, "two"),
        hires("nearest"),
    ]
    together = generate(model, upscalers, *jobs)
    for job, listener in zip(jobs, together, strict=True):
        (alone,) = generate(model, upscalers, job)
        np.testing.assert_array_equal(alone.images[0][0], listener.images[0][0])
    np.testing.assert_array_equal(together[0].images[0][0], together[6].images[0][0])
    assert not np.array_equal(together[3].images[0][0], together[7].images[0][0])
    assert not np.array_equal(together[3].images[0][0], together[4].images[0][0])


def test_hires_fix_counts_the_tiles(model: LatentDiffusion, upscalers: Upscalers) -> None:
    (listener,) = generate(model, upscalers, {**hires("four"), "n": 2})
    steps = 2 * (4 + 2 + 3)
    assert listener.progress[-1] == (steps, steps)
    assert listener.images[1][0].shape == (64, 48, 3)


def test_others_step_between_two_tiles(model: LatentDiffusion, upscalers: Upscalers) -> None:
    engine = DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4, upscalers=upscalers)
    large, small = RecordingListener(), RecordingListener()
    image = png(600, 60)
    engine.admit(AdmittedJob("large", request(**upscale(1200, 120, "two")), image, None, large))
    engine.step()
    engine.admit(AdmittedJob("small", request(steps=2), None, None, small))
    while small.timings is None:
        engine.step()
        assert large.timings is None
    assert large.progress


def test_cancelled_between_two_tiles(model: LatentDiffusion, upscalers: Upscalers) -> None:
    engine = DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4, upscalers=upscalers)
    listener = RecordingListener()
    job = AdmittedJob("job", request(**upscale(540, 48, "two")), png(270, 24), None, listener)
    engine.admit(job)
    engine.step()
    engine.cancel("job")
    assert engine.idle
    assert listener.images == {}


def test_filters_need_no_network(model: LatentDiffusion) -> None:
    (listener,) = generate(model, None, upscale(150, 15, "nearest"))
    image = Image.open(io.BytesIO(png(270, 24)))
    expected = np.array(image.resize((150, 15), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(listener.images[0][0], expected)


@pytest.mark.parametrize("has_some", [True, False])
def test_unknown_upscaler_fails_the_job(
    has_some: bool, model: LatentDiffusion, upscalers: Upscalers, tmp_path: Path
) -> None:
    with pytest.raises(JobFailed, match="upscaler"):
        generate(model, upscalers if has_some else None, upscale(540, 48, "gone"))
