"""The seam between the loop that serves jobs and the engine that draws them.

The loop knows Redis and the store and nothing of torch; the engine knows torch and nothing of
Redis. Either side is tested with the other replaced by a few lines.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DarkroomError
from protocol.queue.job import FinishReason
from protocol.request.request import GenerationRequest

RGB = 3
# (H, W, 3), RGB; of a model that tells depth (H, W, 5), with its high and its low byte.
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EngineTimings:
    """Seconds a job spent in each phase; `denoise` counts from its first step to its last."""

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0


class JobListener(Protocol):
    """What the engine tells about one job, from the thread that calls `admit` or `step`.

    Exactly one of `on_done` and `on_error` is called, and nothing after it. All return at once.
    """

    def on_progress(self, step: int, steps: int) -> None:
        """`step` of `steps` denoising steps are done, over all pictures of the job together."""

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        """Picture `index` (0..n-1), drawn from `seed`, is ready; the engine lets go of `pixels`."""

    def on_done(self, timings: EngineTimings) -> None:
        """Every picture has been handed to `on_image`."""

    def on_error(self, error: DarkroomError) -> None:
        """This job cannot be done; the others go on."""


@dataclass(frozen=True)
class Inputs:
    """The PNGs that a request's keys name; those of its controls in their order."""

    image: bytes | None = None
    mask: bytes | None = None
    controls: tuple[bytes, ...] = ()


@runtime_checkable
class Watching(Protocol):
    """A listener that is to see its pictures before they are done."""

    def on_preview(self, pixels: Pixels) -> None:
        """What the first of its pictures under way is going to look like: (H, W, 3), small."""


@dataclass(frozen=True)
class AdmittedJob:
    """A job as the engine gets it, with the bytes of its `Inputs`.

    priority: 0 high, 1 normal, 2 low. deadline_at: when nobody waits for it any more, on
    `time.monotonic`'s clock.
    """

    id: str
    request: GenerationRequest
    image: bytes | None
    mask: bytes | None
    listener: JobListener
    priority: int = 1
    deadline_at: float | None = None
    controls: tuple[bytes, ...] = ()


class Engine(Protocol):
    """Draws many jobs at once. Every call comes from one thread; only `step` takes long.

    A job of n pictures takes n slots. The loop admits while `free_slots` is above 0, so one job may
    overshoot it: its pictures then wait inside the engine. An engine that lets jobs join only at
    the start of a batch shows 0 in between.
    """

    @property
    def free_slots(self) -> int:
        """How many more pictures may be admitted now."""

    @property
    def idle(self) -> bool:
        """Whether `step` would have nothing to do."""

    @property
    def batch_rows(self) -> int:
        """Rows the network saw in the last step, padding included: what the step's time bought."""

    def admit(self, job: AdmittedJob) -> None:
        """Take a job. Raises DarkroomError to refuse it; its listener then hears nothing."""

    def step(self) -> None:
        """One denoising step for the chosen batch, then whatever has become due.

        An exception out of here means that the admitted jobs are lost: the loop cancels each.
        """

    def cancel(self, job_id: str) -> None:
        """Drop a job, between steps; its listener hears nothing more. Unknown ids are no error."""


class Models(Protocol):
    """The models that a worker draws with. Calls come from the thread that steps the engine."""

    @property
    def names(self) -> Sequence[str]:
        """All that it may ever draw with; they stay the same."""

    def turn(self, in_use: Collection[str]) -> None:
        """Between two steps: let models come and go, save those `in_use`: their jobs are held."""

    def takes(self) -> Sequence[str]:
        """Those whose jobs may be taken now, the one whose turn it is first."""

    def taken(self, model: str) -> None:
        """A job of `model` was taken: the others' turns come before its next."""

    def has(self, model: str) -> bool:
        """Whether the engine can draw with it now."""


@dataclass(frozen=True)
class OneModel:
    """A single model that is always there."""

    name: str

    @property
    def names(self) -> Sequence[str]:
        return (self.name,)

    def turn(self, in_use: Collection[str]) -> None:
        """Nothing ever changes."""

    def takes(self) -> Sequence[str]:
        return self.names

    def taken(self, model: str) -> None:
        """It is its own turn again."""

    def has(self, model: str) -> bool:
        return model == self.name


@dataclass(frozen=True)
class EngineStats:
    """What an engine tells of itself, for metrics.

    Of the last `step`: for how many pictures it denoised (0 if there was nothing left but to
    decode) and in how many seconds, the rows of the network they took, the rows that were run with
    padding, and the size of the pictures in pixels (0: not told). Since the start: how many prompts
    were found encoded, and how many were not.
    """

    pictures: int = 0
    step_s: float | None = None
    rows: int = 0
    rows_run: int = 0
    width: int = 0
    height: int = 0
    cache_hits: int = 0
    cache_misses: int = 0


@runtime_checkable
class Telling(Protocol):
    """An engine that has more to tell than the loop needs."""

    @property
    def stats(self) -> EngineStats:
        """As of now. Read by the metrics' thread too."""


@runtime_checkable
class Preparing(Protocol):
    """An engine for which some jobs need something made ready that takes long."""

    def prepare(self, request: GenerationRequest) -> None:
        """Make ready what `request` needs; from any thread, before it is admitted.

        Raises DarkroomError. What has been let go of again until then, `admit` makes itself.
        """


@dataclass(frozen=True)
class Screened:
    """A picture as it may be shown, and how it came out."""

    pixels: Pixels
    finish_reason: FinishReason = FinishReason.SUCCESS


@runtime_checkable
class Screening(Protocol):
    """An engine whose models look at what they have drawn."""

    def screen(self, request: GenerationRequest, pixels: Pixels) -> Screened:
        """A finished picture of `request`, looked at; from any thread, and it may take long."""

    def hides(self, request: GenerationRequest) -> bool:
        """Whether a picture of `request` may be hidden then: nobody is to see it before."""


def stats_of(engine: Engine) -> EngineStats:
    """The engine's stats, or as much as can be said of one that tells none."""
    if isinstance(engine, Telling):
        return engine.stats
    rows = engine.batch_rows
    return EngineStats(pictures=max(1, rows), rows=rows, rows_run=rows)
