"""Driving the engine in process, as the worker's loop drives it: no queue, no store, no HTTP.

Also the requests to drive it with: a picture, and eight of them no two of which are alike.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.common.workloads import Workload, folder
from models.loading.loader import default_device, load_model
from models.pipeline import LatentDiffusion
from protocol.errors import DarkroomError
from protocol.queue.job import Timings
from protocol.request.object_keys import OutputFormat, input_key
from protocol.request.request import GenerationRequest, Task
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Engine, JobListener, Pixels
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager import warmup
from worker.settings import WorkerSettings

PROMPTS = ("red heart", "pizza", "crescent moon", "cat face", "sunflower", "rocket", "tree", "fish")


@dataclass(frozen=True)
class Kind:
    """What sets a request of the mix apart; `steps` is a share of the workload's."""

    task: Task
    sampler: str
    steps: float
    strength: float | None = None


MIX = (
    Kind(Task.TXT2IMG, "dpmpp_2m", 1.0),
    Kind(Task.TXT2IMG, "ddim", 1.25),
    Kind(Task.TXT2IMG, "euler", 0.75),
    Kind(Task.TXT2IMG, "unipc", 0.5),
    Kind(Task.TXT2IMG, "euler_ancestral", 1.5),
    Kind(Task.IMG2IMG, "dpmpp_2m", 1.25, 0.6),
    Kind(Task.IMG2IMG, "euler", 1.0, 0.8),
    Kind(Task.INPAINT, "ddim", 1.0, 0.9),
)


@dataclass(frozen=True)
class Job:
    """A request with the pictures that its keys name."""

    request: GenerationRequest
    image: bytes | None = None
    mask: bytes | None = None


@dataclass
class Outcome(JobListener):
    """The outcome of a job, from the engine's callbacks. Times are `time.perf_counter`'s."""

    started_at: float
    ended_at: float | None = None
    pixels: dict[int, Pixels] = field(default_factory=dict)

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        self.pixels[index] = pixels

    def on_done(self, timings: Timings) -> None:
        self.ended_at = time.perf_counter()

    def on_error(self, error: DarkroomError) -> None:
        raise error


@dataclass
class Run:
    """A closed set of jobs, drawn: how long it took, and the rows that the network saw a step."""

    outcomes: list[Outcome]
    seconds: float
    mean_rows: float

    @property
    def images_per_s(self) -> float:
        return len(self.outcomes) / self.seconds


def ready_model(
    workload: Workload,
    device: torch.device | None = None,
    settings: WorkerSettings | None = None,
) -> LatentDiffusion:
    """The workload's model as a worker has it when it says that it is ready."""
    device, settings = device or default_device(), settings or WorkerSettings()
    dtype = weights_dtype(device, settings.worker_precision)
    model = load_model(str(folder(workload)), device, dtype)
    return warmup.ready_model(model, (workload.side, workload.side), settings)


def precision(model: LatentDiffusion) -> torch.dtype:
    """What the network computes in: an executor may have chosen less than the model's own."""
    return torch.bfloat16 if "denoiser openvino bf16" in model.executors.name else model.dtype


def engine_for(
    name: str, model: LatentDiffusion, slots: int, *, same_bytes: bool = True
) -> DiffusionEngine:
    """An engine as the worker builds it, for jobs that call the model by `name`."""
    return DiffusionEngine({name: unmeasured(model, slots)}, slots, same_bytes=same_bytes)


def alike(workload: Workload, seed: int) -> Job:
    """A picture from words, as the workload asks for it."""
    return Job(_request(workload, Kind(Task.TXT2IMG, workload.sampler, 1.0), seed))


def mixed(workload: Workload, seed: int) -> Job:
    """One of the mix: eight consecutive seeds give eight kinds."""
    kind = MIX[seed % len(MIX)]
    image = photo(workload.side) if kind.task.takes_image else None
    mask = stencil(workload.side) if kind.task.takes_mask else None
    return Job(_request(workload, kind, seed, image, mask), image, mask)


def draw(engine: Engine, jobs: Sequence[Job]) -> Run:
    """Draw all of `jobs`, each admitted as soon as there is room."""
    waiting = list(reversed(list(enumerate(jobs))))
    outcomes: list[Outcome] = []
    rows, steps = 0, 0
    started = time.perf_counter()
    while waiting or not engine.idle:
        while waiting and engine.free_slots > 0:
            number, job = waiting.pop()
            outcomes.append(Outcome(time.perf_counter()))
            engine.admit(
                AdmittedJob(f"{number:032x}", job.request, job.image, job.mask, outcomes[-1])
            )
        engine.step()
        rows, steps = rows + engine.stats.rows, steps + (engine.stats.rows > 0)
    return Run(outcomes, time.perf_counter() - started, rows / steps)


def photo(side: int) -> bytes:
    """A picture to start from: smooth colours, as a PNG."""
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return _png(np.stack([red, green, 255 - red], axis=-1))


def stencil(side: int) -> bytes:
    """A mask whose middle is to be painted anew, as a PNG."""
    mask = np.zeros((side, side), np.uint8)
    quarter = side // 4
    mask[quarter:-quarter, quarter:-quarter] = 255
    return _png(mask)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _request(
    workload: Workload,
    kind: Kind,
    seed: int,
    image: bytes | None = None,
    mask: bytes | None = None,
) -> GenerationRequest:
    return GenerationRequest(
        task=kind.task,
        model=workload.name,
        prompt=PROMPTS[seed % len(PROMPTS)],
        negative_prompt="",
        width=workload.side,
        height=workload.side,
        steps=max(2, round(kind.steps * workload.steps)),
        sampler=kind.sampler,
        schedule=workload.schedule,
        guidance_scale=workload.guidance_scale,
        seed=seed,
        n=1,
        strength=kind.strength,
        image_key=input_key(image) if image else None,
        mask_key=input_key(mask) if mask else None,
        output_format=OutputFormat.PNG,
        quality=90,
    )


def model_folder(workload: Workload) -> Path:
    """Where the weights are that `ready_model` loads, for whoever else is to draw with them."""
    return folder(workload).resolve()
