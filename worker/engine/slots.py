"""The engine's books: jobs, and the slots in which their pictures are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.multi_pass import Pass
from models.pipeline import LatentDiffusion
from protocol.request.request import Decoder
from worker.interfaces import AdmittedJob, EngineTimings


@dataclass(eq=False)
class RunningJob:
    """A job inside the engine: how many of its pictures are still to come, and where time went."""

    job: AdmittedJob
    recipe: SamplingParams
    encode_s: float
    pending: int
    step: int = 0
    steps: int = 0
    decode_s: float = 0.0
    first_step_at: float | None = None
    last_step_at: float = 0.0
    preview_due: float = 0.0

    def stepped(self, started_at: float, ended_at: float) -> None:
        """One picture of this job went one step further."""
        if self.first_step_at is None:
            self.first_step_at = started_at
        self.last_step_at = ended_at
        self.step += 1

    def timings(self) -> EngineTimings:
        started = self.last_step_at if self.first_step_at is None else self.first_step_at
        return EngineTimings(
            encode=self.encode_s, denoise=self.last_step_at - started, decode=self.decode_s
        )


@dataclass(eq=False)
class Slot:
    """One picture of a job on its way through `model`; a `worker.engine.batcher.Candidate`.

    `later`: the passes that follow, with the names of their models.
    """

    running: RunningJob
    index: int
    seed: int
    model: LatentDiffusion
    trajectory: DenoisingState
    group: tuple[str | int, ...]
    later: list[tuple[str, Pass]] = field(default_factory=list)
    admitted_at: float = field(default_factory=time.monotonic)

    @property
    def decode(self) -> Callable[[Tensor], Tensor]:
        """What makes its picture of its latents: as the request wants it."""
        tiny = self.running.job.request.decoder is Decoder.TINY
        return self.model.decode_tiny if tiny else self.model.decode

    def needs(self, model: str) -> bool:
        """Whether a model of that name draws it, now or later."""
        return model in (self.group[0], self.running.job.request.model, *(n for n, _ in self.later))

    @property
    def rows(self) -> int:
        """Rows of a network batch that one step of this slot takes."""
        return self.trajectory.rows

    @property
    def steps_left(self) -> int:
        later = sum(following.steps for _, following in self.later)
        return self.trajectory.steps - self.trajectory.row + later

    @property
    def priority(self) -> int:
        return self.running.job.priority

    @property
    def deadline_at(self) -> float | None:
        return self.running.job.deadline_at
