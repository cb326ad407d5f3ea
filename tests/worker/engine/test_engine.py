"""The engine with a real, tiny network: images are the same in any batch."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from PIL import Image

from models.cuda.stream import StreamedDecoder
from models.pipeline import LatentDiffusion
from protocol.errors import DarkroomError
from protocol.queue.job import Timings
from protocol.request.request import GenerationRequest, OutputFormat, Task
from worker.engine.decoding import StreamedDecoding
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, JobListener, Pixels

KEY = "inputs/" + "0" * 64


@dataclass
class RecordingListener(JobListener):
    """Keeps what the engine calls it with."""

    progress: list[tuple[int, int]] = field(default_factory=list)
    images: dict[int, tuple[Pixels, int]] = field(default_factory=dict)
    timings: Timings | None = None

    def on_progress(self, step: int, steps: int) -> None:
        assert self.timings is None
        self.progress.append((step, steps))

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        assert index not in self.images
        self.images[index] = (pixels, seed)

    def on_done(self, timings: Timings) -> None:
        assert self.timings is None
        self.timings = timings

    def on_error(self, error: DarkroomError) -> None:
        raise AssertionError(error)


def request(**changes: object) -> GenerationRequest:
    fields: dict[str, object] = {
        "task": Task.TXT2IMG, "model": "tiny", "prompt": "the cat", "negative_prompt": "",
        "width": 32, "height": 32, "steps": 4, "sampler": "euler", "schedule": "linspace",
        "guidance_scale": 3.0, "seed": 5, "n": 1, "output_format": OutputFormat.PNG, "quality": 90,
    }  # fmt: skip
    return GenerationRequest.model_validate(fields | changes)


def png(mode: str, size: tuple[int, int], colour: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")  # type: ignore[arg-type]
    return buffer.getvalue()


Admit = Callable[..., RecordingListener]


@pytest.fixture
def engine(model: LatentDiffusion) -> DiffusionEngine:
    return DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4)


@pytest.fixture
def admit(engine: DiffusionEngine) -> Admit:
    def admit(
        job_id: str, image: bytes | None = None, mask: bytes | None = None, **changes: object
    ) -> RecordingListener:
        listener = RecordingListener()
        engine.admit(AdmittedJob(job_id, request(**changes), image, mask, listener))
        return listener

    return admit


def run(engine: DiffusionEngine) -> None:
    for _ in range(200):
        if engine.idle:
            return
        engine.step()
    raise AssertionError("the engine never became idle")


def test_job_of_several_images(engine: DiffusionEngine, admit: Admit) -> None:
    listener = admit("job", n=3)
    assert engine.free_slots == 1
    run(engine)
    assert listener.progress[-1] == (12, 12)
    assert listener.progress == sorted(listener.progress)
    assert [listener.images[i][1] for i in range(3)] == [5, 6, 7]
    images = [listener.images[i][0] for i in range(3)]
    assert all(p.shape == (32, 32, 3) and p.dtype == np.uint8 for p in images)
    assert not np.array_equal(images[0], images[1])
    assert listener.timings is not None
    assert min(listener.timings.encode, listener.timings.denoise, listener.timings.decode) > 0
    assert engine.free_slots == 4


def test_second_image_of_a_job_equals_the_first_of_the_next_seed(
    engine: DiffusionEngine, admit: Admit
) -> None:
    both, second = admit("both", n=2, seed=30), admit("second", seed=31)
    run(engine)
    np.testing.assert_allclose(both.images[1][0], second.images[0][0].astype(float), atol=1)


def test_jobs_join_and_leave_between_steps(engine: DiffusionEngine, admit: Admit) -> None:
    long = admit("long", steps=9)
    for _ in range(3):
        engine.step()
    short = admit("short", steps=2, sampler="dpmpp_2m", schedule="karras", guidance_scale=1.0)
    engine.step()
    assert engine.stats.rows == 3  # two of the guided job, one of the other
    engine.step()
    assert short.timings is not None
    assert long.timings is None
    assert engine.free_slots == 3
    run(engine)
    assert long.progress[-1] == (9, 9)


def test_other_images_in_the_batch_do_not_change_an_image(
    engine: DiffusionEngine, admit: Admit
) -> None:
    alone = admit("alone", seed=77)
    run(engine)
    crowded = admit("crowded", seed=77)
    admit("other", steps=7, sampler="unipc", schedule="trailing", prompt="the red cat " * 60)
    admit("wide", width=48)
    run(engine)
    np.testing.assert_allclose(crowded.images[0][0], alone.images[0][0].astype(float), atol=1)


def test_shapes_take_turns(engine: DiffusionEngine, admit: Admit) -> None:
    wide, tall = admit("wide", width=48, steps=6), admit("tall", height=48, steps=6)
    while len(wide.progress) < 6 and len(tall.progress) < 6:
        engine.step()
    # How many each had by then depends on how long their steps took.
    assert min(len(wide.progress), len(tall.progress)) > 0
    run(engine)
    assert wide.images[0][0].shape == (32, 48, 3)
    assert tall.images[0][0].shape == (48, 32, 3)


def test_cancelled_job_has_no_more_callbacks(engine: DiffusionEngine, admit: Admit) -> None:
    stopped, other = admit("stopped", n=2), admit("other")
    engine.step()
    engine.cancel("stopped")
    engine.cancel("never was")
    assert engine.free_slots == 3
    run(engine)
    assert len(stopped.progress) == 1
    assert not stopped.images
    assert stopped.timings is None
    assert other.timings is not None


def test_img2img_follows_the_image_and_inpainting_keeps_the_unmasked_part(
    engine: DiffusionEngine, admit: Admit
) -> None:
    image = png("RGB", (32, 32), (200, 30, 60))
    faint = admit(
        "faint", image, task=Task.IMG2IMG, image_key=KEY, strength=0.3, steps=10,
        guidance_scale=1.0,
    )  # fmt: skip
    nothing = admit(
        "nothing", image, png("L", (32, 32), 0), task=Task.INPAINT, image_key=KEY, mask_key=KEY,
        strength=1.0, seed=1,
    )  # fmt: skip
    again = admit(
        "again", image, png("L", (32, 32), 0), task=Task.INPAINT, image_key=KEY, mask_key=KEY,
        strength=0.5, prompt="something else", seed=1, sampler="ddim", schedule="leading",
    )  # fmt: skip
    run(engine)
    assert faint.progress[-1] == (3, 3)
    # With nothing to inpaint, prompt, strength and sampler do not matter.
    np.testing.assert_array_equal(nothing.images[0][0], again.images[0][0])
    np.testing.assert_array_equal(nothing.images[0][0], np.full((32, 32, 3), (200, 30, 60)))


def test_step_of_an_idle_engine_changes_nothing(engine: DiffusionEngine) -> None:
    assert engine.idle
    engine.step()
    assert engine.free_slots == 4


def test_images_decoded_in_parallel_are_the_same(model: LatentDiffusion) -> None:
    decoder = StreamedDecoder(model.device)
    models = {"tiny": unmeasured(model, 4)}
    engines = (
        DiffusionEngine(models, 4),
        DiffusionEngine(models, 4, decoding=StreamedDecoding(decoder)),
    )
    listeners = [[RecordingListener(), RecordingListener()] for _ in engines]
    for engine, (long, short) in zip(engines, listeners, strict=True):
        engine.admit(AdmittedJob("long", request(steps=9), None, None, long))
        engine.admit(AdmittedJob("short", request(steps=2, n=2, seed=8), None, None, short))
        run(engine)
    decoder.close()
    for between, other in zip(*listeners, strict=True):
        assert between.timings is not None
        assert other.timings is not None
        for index, (pixels, seed) in between.images.items():
            assert other.images[index][1] == seed
            np.testing.assert_array_equal(pixels, other.images[index][0])


def test_images_of_a_cancelled_job_are_dropped_while_being_decoded(
    model: LatentDiffusion,
) -> None:
    held = threading.Event()

    def decode(*latents: torch.Tensor) -> torch.Tensor:
        assert held.wait(30)
        return model.executors.decoder(*latents)

    slow = replace(model, executors=replace(model.executors, decoder=decode))
    with StreamedDecoder(model.device) as decoder:
        engine = DiffusionEngine(
            {"tiny": unmeasured(slow, 4)}, 4, decoding=StreamedDecoding(decoder)
        )
        cancelled, kept = RecordingListener(), RecordingListener()
        engine.admit(AdmittedJob("cancelled", request(steps=2), None, None, cancelled))
        engine.admit(AdmittedJob("kept", request(steps=4), None, None, kept))
        engine.step()
        engine.step()
        assert not cancelled.images
        engine.cancel("cancelled")
        held.set()
        run(engine)
    assert not cancelled.images
    assert cancelled.timings is None
    assert set(kept.images) == {0}
