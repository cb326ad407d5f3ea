"""Run the engine in process, as the worker's consumer does, without queue, store or HTTP.

The module also makes the jobs: of one kind, or of eight different kinds.
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
class JobKind:
    """A kind of job in the mix; `steps` is a factor of the workload's steps."""

    task: Task
    sampler: str
    steps: float
    strength: float | None = None


MIX = (
    JobKind(Task.TXT2IMG, "dpmpp_2m", 1.0),
    JobKind(Task.TXT2IMG, "ddim", 1.25),
    JobKind(Task.TXT2IMG, "euler", 0.75),
    JobKind(Task.TXT2IMG, "unipc", 0.5),
    JobKind(Task.TXT2IMG, "euler_ancestral", 1.5),
    JobKind(Task.IMG2IMG, "dpmpp_2m", 1.25, 0.6),
    JobKind(Task.IMG2IMG, "euler", 1.0, 0.8),
    JobKind(Task.INPAINT, "ddim", 1.0, 0.9),
)


@dataclass(frozen=True)
class Job:
    """A request with its input images."""

    request: GenerationRequest
    image: bytes | None = None
    mask: bytes | None = None


@dataclass
class Outcome(JobListener):
    """Outcome of a job; a listener of the engine. Times are those of `time.perf_counter`."""

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
    """Outcomes of a closed set of jobs, its duration and the mean rows of a step."""

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
    """Load the workload's model and warm it up as a worker does before it is ready."""
    device, settings = device or default_device(), settings or WorkerSettings()
    dtype = weights_dtype(device, settings.worker_precision)
    model = load_model(str(folder(workload)), device, dtype)
    return warmup.ready_model(model, (workload.side, workload.side), settings)


def precision(model: LatentDiffusion) -> torch.dtype:
    """Return the precision of the network, which can be lower than that of the model's weights."""
    return torch.bfloat16 if "denoiser openvino bf16" in model.executors.name else model.dtype


def engine_for(
    name: str, model: LatentDiffusion, slots: int, *, same_bytes: bool = True
) -> DiffusionEngine:
    """Build an engine as the worker does, for jobs with the model `name`."""
    return DiffusionEngine({name: unmeasured(model, slots)}, slots, same_bytes=same_bytes)


def txt2img_job(workload: Workload, seed: int) -> Job:
    """Return a text to image job with the workload's settings."""
    return Job(_request(workload, JobKind(Task.TXT2IMG, workload.sampler, 1.0), seed))


def mixed_job(workload: Workload, seed: int) -> Job:
    """Return a job of the mix; eight consecutive seeds give eight kinds."""
    kind = MIX[seed % len(MIX)]
    image = photo(workload.side) if kind.task.takes_image else None
    mask = mask_image(workload.side) if kind.task.takes_mask else None
    return Job(_request(workload, kind, seed, image, mask), image, mask)


def generate(engine: Engine, jobs: Sequence[Job]) -> Run:
    """Run all `jobs`; each is admitted as soon as a slot is free."""
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
    """Return an initial image with smooth colours, as PNG."""
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return _png(np.stack([red, green, 255 - red], axis=-1))


def mask_image(side: int) -> bytes:
    """Return a mask that inpaints the middle, as PNG."""
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
    kind: JobKind,
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
    """Return the folder that `ready_model` loads, for other programs that use the same weights."""
    return folder(workload).resolve()
