"""The seam between the loop that serves jobs and the engine that draws them.

The loop knows Redis and the store and nothing of torch; the engine knows torch and nothing of
Redis. Either side is tested with the other replaced by a few lines.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DarkroomError
from protocol.request import GenerationRequest

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB


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
class AdmittedJob:
    """A job as the engine gets it. `image`, `mask`: bytes of the PNGs the request's keys name."""

    id: str
    request: GenerationRequest
    image: bytes | None
    mask: bytes | None
    listener: JobListener


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
