"""Image to image in tiles: the tiles of a step run in chunks, and a crowd changes no byte."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.autoencoders.preview import LinearPreview
from models.executors.tiling import Tiling
from models.executors.tiling import tiled as cut
from models.loading.controlnets import ControlNets
from models.loading.upscalers import Upscalers
from models.pipeline import LatentDiffusion
from protocol.errors import DarkroomError, JobFailed
from protocol.request.object_keys import input_key
from protocol.request.request import ControlUse, Task, Tiles
from tests.support.tiny_models import write_tiny_controlnet
from tests.support.tiny_upscalers import write_tiny_rrdb
from tests.worker.engine.test_engine import RecordingListener, request, run
from tests.worker.engine.test_memory import with_memory_for
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels

Job = dict[str, object]
LONG = pytest.mark.long


def png(width: int = 40, height: int = 24) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


KEY = input_key(png())


def img2img(width: int = 80, height: int = 48, **changes: object) -> Job:
    return {
        "task": Task.IMG2IMG, "width": width, "height": height, "image_key": KEY, "strength": 0.7,
        "steps": 3, "sampler": "euler_ancestral", **changes,
    }  # fmt: skip


def tiled(
    width: int = 80, height: int = 48, upscaler: str = "lanczos", size: int = 32, **changes: object
) -> Job:
    tiles = Tiles(size=size, overlap=size // 4, upscaler=upscaler)
    return img2img(width, height, tiles=tiles, **changes)


@pytest.fixture(scope="module")
def home(model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_tiny_rrdb(home / "upscalers/two")
    write_tiny_controlnet(home / "controlnets/tile", model.folder, seed=3)
    return home


@pytest.fixture
def engine(model: LatentDiffusion, home: Path) -> DiffusionEngine:
    return DiffusionEngine(
        {"tiny": unmeasured(model, 4)},
        max_slots=4,
        controlnets=ControlNets(home / "controlnets"),
        upscalers=Upscalers(home / "upscalers", torch.device("cpu"), torch.float32),
    )


class Outcome(RecordingListener):
    """Keeps the error of a job, too."""

    error: DarkroomError | None = None

    def on_error(self, error: DarkroomError) -> None:
        self.error = error


Generate = Callable[..., list[Pixels]]


@pytest.fixture
def generate(engine: DiffusionEngine) -> Generate:
    def generate(*jobs: Job) -> list[Pixels]:
        listeners = [admit(engine, job, f"job {n}") for n, job in enumerate(jobs)]
        run(engine)
        return [listener.images[0][0] for listener in listeners]

    return generate


def admit(engine: DiffusionEngine, job: Job, name: str = "job") -> RecordingListener:
    listener, asked = RecordingListener(), request(**job)
    image = png() if asked.task is Task.IMG2IMG else None
    controls = tuple(png() for _ in asked.controls)
    engine.prepare(asked)
    engine.admit(AdmittedJob(name, asked, image, None, listener, controls=controls))
    return listener


def by(key: str, **changes: object) -> tuple[ControlUse, ...]:
    return (ControlUse.model_validate({"model": "tile", "image_key": key, **changes}),)


@pytest.mark.parametrize("changes", [{}, {"strength": 1.0}, {"controls": by(KEY)}])
def test_one_tile_that_covers_the_image_equals_image_to_image(
    changes: Job, generate: Generate
) -> None:
    plain, covered = generate(
        img2img(40, 24, **changes), tiled(40, 24, upscaler="nearest", size=40, **changes)
    )
    np.testing.assert_array_equal(plain, covered)


def test_tiles_have_the_size_of_the_request(generate: Generate) -> None:
    lanczos, network = generate(tiled(), tiled(upscaler="two"))
    assert lanczos.shape == network.shape == (48, 80, 3)
    assert not np.array_equal(lanczos, network)


CROWDS = [
    [tiled(), {"steps": 2}, tiled(96, 32, upscaler="two", guidance_scale=1.0, seed=9)],
    [tiled(controls=by(KEY, end=0.7)), tiled(controls=by("inputs/" + "1" * 64)), tiled(seed=7)],
    [tiled(), tiled(), img2img(40, 24), tiled(seed=11, steps=7), tiled(controls=by(KEY))],
]


@pytest.mark.parametrize("jobs", [CROWDS[0], *(pytest.param(c, marks=LONG) for c in CROWDS[1:])])
def test_crowd_changes_no_byte(jobs: list[Job], generate: Generate) -> None:
    together = generate(*jobs)
    for job, image in zip(jobs, together, strict=True):
        [alone] = generate(job)
        np.testing.assert_array_equal(alone, image)
    assert not any(np.array_equal(together[-1], image) for image in together[:-1])


def test_progress_counts_tiles(engine: DiffusionEngine) -> None:
    listener = admit(engine, tiled())
    run(engine)
    rows, tiles = 2, 3 * 2
    steps = 3 + rows * tiles  # resizing, encoding and decoding are one each
    done = [step for step, of in listener.progress if of == steps]
    assert done == sorted({*done})
    # A run of the network has tiles of one row of the table only.
    assert {1, 2, 2 + tiles, 2 + 2 * tiles, steps} <= {*done}


LARGE = tiled(320, 320)  # 13 x 13 tiles


def test_others_step_between_the_tiles_of_a_step(engine: DiffusionEngine) -> None:
    """The order depends on measured times, but no image waits for a whole row of another."""
    large, small = admit(engine, LARGE, "large"), admit(engine, {"steps": 150}, "small")
    within_the_row = 0
    while not large.progress or large.progress[-1][0] < 2 + 13 * 13:
        before, begun = len(small.progress), bool(large.progress) and large.progress[-1][0] > 2
        engine.step()
        within_the_row += begun and len(small.progress) > before
    assert within_the_row > 1


def test_cancelled_between_the_tiles_of_a_step(engine: DiffusionEngine) -> None:
    listener = admit(engine, LARGE)
    while not listener.progress or listener.progress[-1][0] <= 2:
        engine.step()
    assert listener.progress[-1][0] < 2 + 13 * 13
    engine.cancel("job")
    assert engine.idle
    assert listener.images == {}


def test_bands_of_the_first_stage_are_steps(model: LatentDiffusion) -> None:
    """A first stage that works in tiles gives other images their turn, too."""
    executors = cut(model.executors, model.autoencoder, Tiling(32))
    small = replace(model, executors=executors)
    engine = DiffusionEngine({"tiny": unmeasured(small, 4)}, max_slots=4)
    listener, plain = admit(engine, tiled(size=80)), admit(engine, img2img(40, 24), "plain")
    run(engine)
    assert listener.progress[-1] == (1 + 2 + 2 + 2, 1 + 2 + 2 + 2)
    assert listener.images[0][0].shape == (48, 80, 3)
    assert plain.images[0][0].shape == (24, 40, 3)


def test_previews_show_completed_rows(model: LatentDiffusion) -> None:
    previews: list[Mapping[int, Pixels]] = []

    class Watching(RecordingListener):
        def on_previews(self, pixels: Mapping[int, Pixels]) -> None:
            previews.append(pixels)

    seen = replace(model, linear_preview=LinearPreview.fitted(model.autoencoder))
    engine = DiffusionEngine({"tiny": unmeasured(seen, 4)}, max_slots=4)
    engine.admit(AdmittedJob("job", request(**tiled(previews=True)), png(), None, Watching()))
    while not engine.idle:
        for slot in engine._slots:
            slot.next_preview_at = 0.0
        engine.step()
    assert len(previews) == 1  # of two rows, not the first, whose level the table does not contain


@pytest.mark.parametrize("tiles_that_fit", [1, 0])
def test_fewer_tiles_run_where_memory_does_not_suffice(
    tiles_that_fit: int, engine: DiffusionEngine, model: LatentDiffusion
) -> None:
    listener = admit(engine, tiled())
    run(engine)
    tile = request(**tiled()).tiles
    assert tile is not None
    factor = model.autoencoder.config.factor
    cells = 2 * tiles_that_fit * (tile.size // factor) ** 2  # with and without the prompt
    small, network = with_memory_for(model, cells)
    engine = DiffusionEngine({"tiny": unmeasured(small, 4)}, max_slots=4)
    limited, asked = Outcome(), request(**tiled())
    engine.admit(AdmittedJob("job", asked, png(), None, limited))
    run(engine)
    if tiles_that_fit == 0:
        assert isinstance(limited.error, JobFailed)
        assert network.seen == [8, 4, 2]
    else:
        assert max(network.seen[2:]) == 2 * tiles_that_fit
        np.testing.assert_array_equal(limited.images[0][0], listener.images[0][0])
