"""Outpainting through the engine: the image stays, its border is generated in rounds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.outpainting import Canvas, Composition, faded
from models.outpainting import Outpainting as Rounds
from protocol.request.inpainting import MaskedContent
from protocol.request.outpainting import Outpainting, outpainting
from protocol.request.request import Decoder, Task
from tests.models.published import small_models
from tests.support.tiny_models import (
    write_tiny_asymmetric,
    write_tiny_inpainting,
    write_tiny_sd,
    write_tiny_vae,
)
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels
from worker.output.paste import pasted

STEPS = 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusionEngine:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_sd(folder / "four")
    write_tiny_vae(folder / "four/tiny_vae")
    write_tiny_inpainting(folder / "nine")
    small_models.write_inpainting(folder / "paper")
    write_tiny_asymmetric(write_tiny_sd(folder / "asymmetric"))
    models = {
        name: unmeasured(load_model(str(folder / name), torch.device("cpu")), 4)
        for name in ("four", "nine", "paper", "asymmetric")
    }
    return DiffusionEngine(models, max_slots=4)


def noise(width: int, height: int, seed: int = 1, channels: int = 3) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Job:
    """An image, its borders (left, top, right, bottom), and further fields of the request."""

    image: Pixels
    borders: tuple[int, int, int, int]
    fields: Mapping[str, Any]
    blend: int = 2
    window: tuple[int, int] = (32, 32)

    @property
    def asked(self) -> Outpainting:
        height, width, _ = self.image.shape
        return outpainting((width, height), self.borders, self.window, self.blend)

    def admitted(self, name: str, listener: RecordingListener) -> AdmittedJob:
        asked = self.asked
        fields = {
            "task": Task.OUTPAINT,
            "width": asked.result.width,
            "height": asked.result.height,
            "image_key": KEY,
            "outpainting": asked,
            "masked_content": MaskedContent.FILL,
            "strength": 0.8,
            "steps": STEPS,
            **self.fields,
        }
        return AdmittedJob(name, request(**fields), png(self.image), None, listener)

    def run(self, engine: DiffusionEngine) -> list[Pixels]:
        listener = RecordingListener()
        engine.admit(self.admitted("job", listener))
        run(engine)
        return [pixels for pixels, _ in listener.images.values()]

    def kept(self) -> tuple[slice, slice, Pixels]:
        """Return the rows and columns of the result that must not change, and their pixels."""
        kept, result, image = self.asked.kept, self.asked.result, self.asked.image
        left, top = kept.left - result.left, kept.top - result.top
        x, y = kept.left - image.left, kept.top - image.top
        pixels = self.image[y : y + kept.height, x : x + kept.width]
        return slice(top, top + kept.height), slice(left, left + kept.width), pixels


BORDERS = [(12, 0, 0, 0), (40, 0, 30, 0), (0, 33, 0, 0), (7, 5, 40, 21)]
ALL = [
    {"model": "four"},
    {"model": "four", "strength": 1.0, "decoder": Decoder.TINY},
    {"model": "four", "masked_content": MaskedContent.NOISE, "sampler": "euler_ancestral"},
    {"model": "nine", "strength": 1.0},
    {"model": "nine", "masked_content": MaskedContent.NOTHING},
    {"model": "paper", "strength": 1.0, "prompt": "", "guidance_scale": 1.0},
    {"model": "asymmetric"},
]


@pytest.mark.parametrize(
    ("fields", "borders"),
    [*((ALL[0], borders) for borders in BORDERS), *((fields, BORDERS[1]) for fields in ALL[1:])],
)
def test_image_stays_and_border_is_generated(
    engine: DiffusionEngine, fields: dict[str, Any], borders: tuple[int, int, int, int]
) -> None:
    job = Job(noise(36, 29), borders, fields)
    first, second = job.run(engine), Job(job.image, borders, {**fields, "seed": 99}).run(engine)
    rows, columns, pixels = job.kept()
    left, top, right, bottom = borders
    for found in (first[0], second[0]):
        assert found.shape == (29 + top + bottom, 36 + left + right, 3)
        np.testing.assert_array_equal(found[rows, columns], pixels)
    changed = (first[0] != second[0]).any(axis=2)
    border = np.ones(changed.shape, bool)
    border[top : top + 29, left : left + 36] = False
    assert changed[border].mean() > 0.9  # all of it comes from the noise of its seed


def test_every_side_without_a_border_is_kept_to_its_edge(engine: DiffusionEngine) -> None:
    """Also where the window is larger than the image, and more is generated than asked for."""
    job = Job(noise(20, 12), (0, 0, 6, 0), {"model": "four"})
    (found,) = job.run(engine)
    np.testing.assert_array_equal(found[:, :18], job.image[:, :18])


def test_progress_counts_the_steps_of_all_rounds(engine: DiffusionEngine) -> None:
    job, listener = Job(noise(32, 32), (30, 0, 30, 0), {"model": "four", "n": 2}), Steps()
    rounds = len(job.asked.rounds)
    assert rounds > 2
    engine.admit(job.admitted("job", listener))
    run(engine)
    steps = 2 * rounds * (listener.steps_of_a_round + 1)
    assert listener.progress[-1] == (steps, steps)
    done = [step for step, _ in listener.progress]
    assert done == sorted(done)
    assert len(listener.images) == 2


class Steps(RecordingListener):
    """Keeps the progress. A strength of 0.8 leaves one of two steps."""

    steps_of_a_round = int(0.8 * STEPS)

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[tuple[int, int]] = []

    def on_progress(self, step: int, steps: int) -> None:
        self.progress.append((step, steps))


def test_cancelled_between_rounds(engine: DiffusionEngine) -> None:
    listener = RecordingListener()
    engine.admit(Job(noise(32, 32), (60, 0, 0, 0), {"model": "four"}).admitted("job", listener))
    for _ in range(3):
        engine.step()
    engine.cancel("job")
    assert engine.idle
    assert not listener.images


@pytest.mark.parametrize("model", ["four", "asymmetric"])
def test_a_crowd_gives_each_request_the_bytes_it_has_alone(
    engine: DiffusionEngine, model: str
) -> None:
    crowd = [
        Job(noise(36, 29, seed), borders, {"model": model, "seed": seed, "n": 1 + seed % 2})
        for seed, borders in enumerate(BORDERS)
    ]
    alone = [job.run(engine) for job in crowd]
    listeners = [RecordingListener() for _ in crowd]
    for number, (job, listener) in enumerate(zip(crowd, listeners, strict=True)):
        engine.admit(job.admitted(f"job{number}", listener))
        engine.step()
    run(engine)
    for listener, images in zip(listeners, alone, strict=True):
        for index, pixels in enumerate(images):
            np.testing.assert_array_equal(listener.images[index][0], pixels)


def test_decoder_reads_what_is_known_before_the_end_of_a_round(engine: DiffusionEngine) -> None:
    """The asymmetric autoencoder is conditioned on it, see its tests."""
    model, image = engine.models["asymmetric"].model, noise(20, 32)
    window = slice(0, 32), slice(0, 32)
    canvas = Canvas(image, (slice(0, 32), slice(12, 32)), (32, 32), window, 2)
    given: list[SamplingParams] = []

    def decode(latents: torch.Tensor, params: SamplingParams) -> torch.Tensor:
        given.append(params)
        return model.decode(latents, params)

    params = SamplingParams(width=32, height=32, steps=2, strength=1.0, guidance_scale=1.0)
    rounds = Rounds(model, params, canvas, [window], decode)
    (state,) = model.start(rounds.round_params(window), [3])
    (composition,) = (later.begin(state) for later in rounds.passes(2))
    assert isinstance(composition, Composition)
    while not composition.done:
        composition.advance()
    [one] = given
    assert one.image is not None
    assert one.mask is not None
    unknown = one.mask[0].numpy() == 1
    assert unknown[:, :12].all()
    assert not unknown[:, 12:].any()
    known = ((one.image / 2 + 0.5) * 255).round().byte().movedim(0, -1).numpy()
    np.testing.assert_array_equal(known[:, 12:], image)


def test_transparent_image_keeps_its_alpha_and_colours() -> None:
    job = Job(noise(20, 12, channels=4), (5, 0, 0, 3), {"model": "four"})
    admitted = job.admitted("job", RecordingListener())
    generated = noise(25, 15, seed=2)
    result = pasted(generated, admitted.request, {KEY: png(job.image)})
    assert result.alpha is not None
    rows, columns, pixels = job.kept()
    np.testing.assert_array_equal(result.pixels[rows, columns], pixels[..., :3])
    np.testing.assert_array_equal(result.alpha[rows, columns], pixels[..., 3])
    outside = np.ones((15, 25), bool)
    outside[rows, columns] = False
    np.testing.assert_array_equal(result.pixels[outside], generated[outside])
    assert (result.alpha[outside] == 255).all()


@pytest.mark.parametrize("width", [0, 1, 4, 7])
def test_blended_share_falls_from_one_to_nothing(width: int) -> None:
    marked = np.zeros((9, 30), bool)
    marked[:, :10] = True
    share = faded(marked, width)[0].numpy()
    assert (share[:, :10] == 1).all()
    assert (share[:, 10 + width :] == 0).all()
    falling = share[4, 10 : 10 + width]
    assert (np.diff(falling) <= 0).all()
    assert (falling > 0).all()
