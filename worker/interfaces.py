"""The interface between the consumer, which serves jobs, and the engine, which generates images.

The consumer uses Redis and the object store but not torch; the engine uses torch but neither of
them. The tests of each replace the other by a few lines.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DarkroomError
from protocol.queue.job import FinishReason, Timings
from protocol.request.request import GenerationRequest

RGB = 3
# (H, W, 3), RGB; of a model that predicts depth (H, W, 5), with the depth's high and low byte.
Pixels = NDArray[np.uint8]


class JobListener(ABC):
    """Callbacks for one job, called from the thread that calls `admit` or `step`.

    Exactly one of `on_done` and `on_error` is called, and nothing after it. All return at once.
    A listener may leave out `on_progress` and `on_previews`.
    """

    def on_progress(self, step: int, steps: int) -> None:  # noqa: B027 - optional
        """Note that `step` of `steps` denoising steps are done, over all images of the job."""

    def on_previews(self, pixels: Mapping[int, Pixels]) -> None:  # noqa: B027 - optional
        """Take small previews (H, W, 3) of unfinished images of the job, by their index."""

    @abstractmethod
    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        """Take image `index` (0..n-1), generated from `seed`; the engine drops its `pixels`."""

    @abstractmethod
    def on_done(self, timings: Timings) -> None:
        """Note that every image has been passed to `on_image`; `timings`: encode, denoise, decode.

        `denoise` counts from the job's first step to its last.
        """

    @abstractmethod
    def on_error(self, error: DarkroomError) -> None:
        """Note that this job failed; the others go on."""


@dataclass(eq=False)
class AdmittedJob:
    """A job in the engine: its request and input files, and the engine's counters.

    image, mask, controls, depth_map: PNGs. priority: 0 high, 1 normal, 2 low. deadline_at: the time
    after which the result is no longer needed, on `time.monotonic`'s clock.
    """

    id: str
    request: GenerationRequest
    image: bytes | None
    mask: bytes | None
    listener: JobListener
    priority: int = 1
    deadline_at: float | None = None
    controls: tuple[bytes, ...] = ()
    depth_map: bytes | None = None

    # Kept by the engine.
    steps: int = field(default=0, init=False)  # of all its images and passes
    steps_done: int = field(default=0, init=False)
    images_left: int = field(default=0, init=False)
    encode_s: float = field(default=0.0, init=False)
    decode_s: float = field(default=0.0, init=False)
    first_step_at: float | None = field(default=None, init=False)
    last_step_at: float = field(default=0.0, init=False)

    def count_steps(self, steps: int, started_at: float, ended_at: float) -> None:
        """Count steps of one of the job's images."""
        if self.first_step_at is None:
            self.first_step_at = started_at
        self.last_step_at = ended_at
        self.steps_done += steps

    @property
    def timings(self) -> Timings:
        started = self.last_step_at if self.first_step_at is None else self.first_step_at
        denoise_s = self.last_step_at - started
        return Timings(encode=self.encode_s, denoise=denoise_s, decode=self.decode_s)


@dataclass(frozen=True)
class EngineStats:
    """The engine's figures for metrics.

    Of the last `step`: the images it denoised (0 if it only decoded), its seconds, the rows of the
    network they took, the rows run with padding, and the images' size in pixels (0: unknown). Since
    the start: the prompts found in the cache, and those that were not; the images decoded again in
    single precision.
    """

    images: int = 0
    step_s: float | None = None
    rows: int = 0
    rows_run: int = 0
    width: int = 0
    height: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    decoded_again: int = 0


class Engine(ABC):
    """Generates the images of many jobs at once.

    One thread makes every call, except for `prepare`, `screen`, `may_hide` and `stats`, which any
    thread may call. Only `step`, `prepare` and `screen` take long.

    A job of n images takes n slots. The consumer admits while `free_slots` is above 0, so one job
    may exceed it: its images then wait inside the engine. An engine whose jobs join only at the
    start of a batch returns 0 in between.
    """

    @property
    @abstractmethod
    def free_slots(self) -> int:
        """The number of images that may be admitted now."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """True if `step` has nothing to do."""

    @property
    def stats(self) -> EngineStats:
        """The figures of now."""
        return EngineStats()

    @abstractmethod
    def admit(self, job: AdmittedJob) -> None:
        """Take a job. Raises DarkroomError to refuse it, without a call of its listener."""

    @abstractmethod
    def step(self) -> None:
        """Run one denoising step of the chosen batch, then decode the images that are due.

        After an exception the admitted jobs are lost: the consumer cancels each.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Drop a job between steps, without further calls of its listener; ignore unknown ids."""

    def prepare(self, request: GenerationRequest) -> None:  # noqa: B027 - optional
        """Load what `request` needs before it is admitted. Raises DarkroomError.

        What is evicted before the admission is loaded again by `admit`.
        """

    def screen(self, request: GenerationRequest, pixels: Pixels) -> tuple[Pixels, FinishReason]:
        """Check a finished image of `request`; return the pixels to show, and the reason."""
        return pixels, FinishReason.SUCCESS

    def may_hide(self, request: GenerationRequest) -> bool:
        """True if `screen` may hide an image of `request`, which then has no previews."""
        return False


class Models(Protocol):
    """The models of a worker. The thread that steps the engine makes every call."""

    @property
    def names(self) -> Sequence[str]:
        """All models that the worker may load; more may be added later."""

    def update(self, in_use: Collection[str]) -> None:
        """Load and evict models between two steps; keep those `in_use`, which have jobs here."""

    def claimable(self) -> Sequence[str]:
        """Return the models whose jobs may be claimed now, the least recently served first."""

    def mark_claimed(self, model: str) -> None:
        """Note that a job of `model` was claimed: the other models are served before its next."""

    def is_ready(self, model: str) -> bool:
        """True if the engine has the model in memory now."""


@dataclass(frozen=True)
class OneModel:
    """A single model that is always loaded."""

    name: str

    @property
    def names(self) -> Sequence[str]:
        return (self.name,)

    def update(self, in_use: Collection[str]) -> None:
        """Do nothing: the model stays."""

    def claimable(self) -> Sequence[str]:
        return self.names

    def mark_claimed(self, model: str) -> None:
        """Do nothing: no other model waits."""

    def is_ready(self, model: str) -> bool:
        return model == self.name
