"""Each of the paper's tasks from a client's request to pixels: card, request, engine."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.denoising.sampling_params import Box, SamplingParams
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.errors import DarkroomError, InvalidRequest
from protocol.queue.job import Timings
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import input_key
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.tasks import Task
from tests.models.published import small_models
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, JobListener, Pixels
from worker.model_info.model_card import model_card
from worker.model_manager.profiling import measure

BOX = {"class": 3, "x": 0.25, "y": 0.0, "width": 0.75, "height": 0.5}


@dataclass
class RecordingListener(JobListener):
    images: dict[int, Pixels] = field(default_factory=dict)
    done: bool = False

    def on_progress(self, step: int, steps: int) -> None: ...

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        self.images[index] = pixels

    def on_done(self, timings: Timings) -> None:
        self.done = True

    def on_error(self, error: DarkroomError) -> None:
        raise AssertionError(error)


@dataclass(frozen=True)
class Case:
    """A task: its model, the client's request, and the sampling parameters that it means."""

    task: Task
    write: Callable[[Path], Path]
    fields: dict[str, Any] = field(default_factory=dict)
    image: Image.Image | None = None
    mask: Image.Image | None = None
    meant: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (32, 32)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def tensor(image: Image.Image) -> torch.Tensor:
    values = torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1)
    return values.movedim(-1, 0)


SMALL, WHOLE = noise(10, 9), noise(32, 32)
HOLE = Image.new("L", (32, 32))
HOLE.paste(255, (4, 8, 20, 30))
LABELS = Image.fromarray((np.mgrid[:32, :32].sum(0) // 9 % small_models.CLASSES).astype(np.uint8))
CASES = [
    Case(Task.UNCONDITIONAL, small_models.write_unconditional),
    Case(
        Task.TXT2IMG,
        small_models.write_text_to_image,
        {"prompt": "the red cats", "guidance_scale": 4},
        meant={"prompt": "the red cats", "guidance_scale": 4.0},
    ),
    Case(
        Task.IMG2IMG,
        small_models.write_text_to_image,
        {"prompt": "a dog", "guidance_scale": 4, "strength": 0.7},
        image=WHOLE,
        meant={
            "prompt": "a dog",
            "guidance_scale": 4.0,
            "strength": 0.7,
            "image": tensor(WHOLE) / 127.5 - 1,
        },
    ),
    Case(
        Task.CLASS,
        small_models.write_class,
        {"class_id": 2, "guidance_scale": 3},
        meant={"class_id": 2, "guidance_scale": 3.0},
    ),
    Case(
        Task.LAYOUT,
        small_models.write_layout,
        {"boxes": [BOX]},
        meant={"boxes": (Box(3, 0.25, 0.0, 0.75, 0.5),)},
    ),
    Case(
        Task.SEMANTIC, small_models.write_semantic, image=LABELS, meant={"labels": tensor(LABELS)}
    ),
    Case(
        Task.INPAINT,
        small_models.write_inpainting,
        image=WHOLE,
        mask=HOLE,
        meant={"image": tensor(WHOLE) / 127.5 - 1, "mask": tensor(HOLE) / 255},
    ),
    Case(
        Task.UPSCALE,
        small_models.write_super_resolution,
        image=SMALL,
        meant={"low_res": tensor(SMALL) / 127.5 - 1},
        size=(40, 36),
    ),
]
every_task = pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)


Loaded = Callable[[Case], tuple[LatentDiffusion, ModelCard]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return the model of a case and its card, written and loaded once."""

    @cache
    def load(task: Task) -> tuple[LatentDiffusion, ModelCard]:
        case = next(case for case in CASES if case.task is task)
        folder = case.write(tmp_path_factory.mktemp(task))
        model = load_model(str(folder), torch.device("cpu"))
        return model, model_card(model, str(folder))

    return lambda case: load(case.task)


def png(image: Image.Image | None) -> bytes | None:
    if image is None:
        return None
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()


def request_of(case: Case, card: ModelCard, **changes: Any) -> GenerationRequest:
    fields = {"steps": 3, "seed": 5, "sampler": "ddim", "schedule": "leading"} | case.fields
    image, mask = (
        None if given is None else InputImage(key=input_key(b""), width=w, height=h)
        for given in (case.image, case.mask)
        for w, h in [given.size if given else (0, 0)]
    )
    return resolve(
        case.task, parse_params(GenerationParams, fields | changes), card, len, image, mask
    )


def generate(engine: DiffusionEngine, case: Case, request: GenerationRequest) -> list[Pixels]:
    listener = RecordingListener()
    engine.admit(AdmittedJob("job", request, png(case.image), png(case.mask), listener))
    while not engine.idle:
        engine.step()
    assert listener.done
    return [listener.images[index] for index in sorted(listener.images)]


@every_task
def test_request_generates_the_image_of_its_parameters(case: Case, loaded: Loaded) -> None:
    model, card = loaded(case)
    words = (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT, Task.OUTPAINT)
    alone = (case.task, Task.OUTPAINT) if case.task is Task.INPAINT else (case.task,)
    assert card.tasks == (words if "prompt" in case.fields else alone)
    assert card.family == "ldm"
    assert card.reads_prompts == ("prompt" in case.fields)
    engine = DiffusionEngine({card.name: unmeasured(model, 4)}, max_slots=4)
    request = request_of(case, card, n=2)
    first, second = generate(engine, case, request)
    width, height = case.size
    assert first.shape == second.shape == (height, width, 3)
    assert not np.array_equal(first, second)
    assert request.eta == (1.0 if case.task is Task.UPSCALE else 0.0)
    params = SamplingParams(
        width=width, height=height, steps=3, sampler="ddim", schedule="leading", seed=6,
        eta=request.eta,
        **{"guidance_scale": 1.0} | case.meant,
    )  # fmt: skip
    [last] = list(model.generate([params]))[-1]
    whole = model.postprocess(params, model.decode(last.x[None])[0])
    np.testing.assert_allclose(second.astype(float), whole.numpy().astype(float), atol=1)


@every_task
def test_workers_can_profile_the_model(case: Case, loaded: Loaded) -> None:
    """Missing inputs are blank, so that a worker can time a step before any request."""
    model, card = loaded(case)
    rows = []

    def counting(*inputs: torch.Tensor) -> torch.Tensor:
        rows.append(len(inputs[0]))
        return model.executors.denoiser(*inputs)

    counted = replace(model, executors=replace(model.executors, denoiser=counting))
    measured = measure(counted, (card.default_width, card.default_height), 4, 60.0)
    assert set(rows) == set(measured.seconds) == {2, 4}


def test_large_image_is_processed_in_patches_of_one_size(loaded: Loaded) -> None:
    case = next(case for case in CASES if case.task is Task.UPSCALE)
    model, card = loaded(case)
    seen = []

    def watched(*inputs: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(inputs[0].shape))
        return model.executors.denoiser(*inputs)

    recorded = replace(model, executors=replace(model.executors, denoiser=watched))
    large = replace(case, image=noise(140, 130))
    engine = DiffusionEngine({card.name: unmeasured(recorded, 4)}, max_slots=4)
    [generated] = generate(engine, large, request_of(large, card, steps=1))
    assert generated.shape == (520, 560, 3)
    assert seen == [(4, 6, 128, 128)]


def test_bounds_are_those_of_the_task(loaded: Loaded) -> None:
    cards = {case.task: loaded(case)[1] for case in CASES}
    assert cards[Task.CLASS].classes == small_models.CLASSES
    assert cards[Task.SEMANTIC].classes == small_models.CLASSES
    assert cards[Task.LAYOUT].max_boxes == 4
    assert cards[Task.UPSCALE].upscale_factor == 4
    assert cards[Task.INPAINT].default_strength == 1.0
    for task in (Task.UNCONDITIONAL, Task.LAYOUT, Task.SEMANTIC, Task.INPAINT, Task.UPSCALE):
        case = next(case for case in CASES if case.task is task)
        with pytest.raises(InvalidRequest, match="guidance_scale"):
            request_of(case, cards[task], guidance_scale=2)


def test_unmasked_pixels_are_unchanged(loaded: Loaded) -> None:
    case = next(case for case in CASES if case.task is Task.INPAINT)
    model, card = loaded(case)
    [generated] = generate(
        DiffusionEngine({card.name: unmeasured(model, 4)}, max_slots=4),
        case,
        request_of(case, card),
    )
    kept = np.array(HOLE) == 0
    np.testing.assert_array_equal(generated[kept], np.array(WHOLE)[kept])
    assert np.abs(generated.astype(int) - np.array(WHOLE))[~kept].max() > 10
