"""Everything about one job that this worker holds, in one object, from claim to ending."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from enum import Enum, auto

from protocol.errors import DarkroomError
from protocol.queue.job import ImageResult, JobResult, JobState, Phase, Progress, Timings
from protocol.request.request import GenerationRequest, Priority
from protocol.telemetry.tracing import NO_TRACING, Tracing
from worker.consumer.leases import ALONE_FROM, Claim
from worker.consumer.progress_reporter import Reporter
from worker.consumer.tracing import JobTrace
from worker.interfaces import (
    AdmittedJob,
    Engine,
    EngineTimings,
    Inputs,
    Pixels,
    Preparing,
    Screened,
    Screening,
)
from worker.output.image_files import encode_preview
from worker.output.output_processor import OutputProcessor

logger = logging.getLogger(__name__)

# Told in a delivery thread how a job ended: its result, or why there is none.
Ending = Callable[["JobRun", JobResult | DarkroomError], None]


class Stage(Enum):
    FETCHING = auto()  # its input pictures are being read
    READY = auto()  # waits for room in the engine
    DRAWING = auto()  # in the engine
    DELIVERING = auto()  # out of the engine: encoding, storing, marking as ended
    DROPPED = auto()  # nobody here cares any more


class JobRun:
    """A claimed job; it listens to the engine and sees its pictures delivered.

    `stage` belongs to the loop's thread, which is also the one that the engine calls back from.
    """

    def __init__(
        self,
        claim: Claim,
        request: GenerationRequest,
        engine: Engine,
        delivery: OutputProcessor,
        reporter: Reporter,
        on_end: Ending,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self.claim = claim
        self.request = request
        self.stage = Stage.FETCHING
        self.begun = time.monotonic()
        self._queued_at = _seconds_since_epoch(claim.enqueued_at)
        self._claimed_at = time.time()
        self.trace = JobTrace(tracing, claim, self._queued_at)
        self._engine = engine
        self._delivery = delivery
        self._reporter = reporter
        self._on_end = on_end
        self._inputs: Future[Inputs] | None = None
        self._pictures: dict[int, Future[ImageResult]] = {}
        self._previews = 0
        self._previewing: Future[None] | None = None

    @property
    def suspect(self) -> bool:
        """Whether it was there when workers died: to be drawn without company."""
        return self.claim.crashes >= ALONE_FROM

    @property
    def waited_s(self) -> float:
        """Seconds it waited in the queue; 0 if that is not known."""
        return max(0.0, self._claimed_at - self._queued_at) if self._queued_at else 0.0

    @property
    def deadline_at(self) -> float | None:
        """When nobody waits for it any more, on the monotonic clock."""
        left_s = self.claim.time_left_s
        return None if left_s is None else self.begun + left_s

    @property
    def limit_s(self) -> float:
        """Seconds it may take in all, from acceptance."""
        return self.request.deadline_s or round(self.waited_s + (self.claim.time_left_s or 0.0))

    @property
    def too_late(self) -> bool:
        return self.deadline_at is not None and time.monotonic() > self.deadline_at

    @property
    def in_hand(self) -> bool:
        """Whether it can still be dropped or handed back with nothing lost but time."""
        return self.stage in (Stage.FETCHING, Stage.READY, Stage.DRAWING)

    def fetch(self, then: Callable[[], None]) -> None:
        """Begin to read the input pictures and to make ready what else the engine needs, if there
        is any; `then` is called when `fetched`."""
        self._report(Phase.ENCODE)
        added = self.request.loras or self.request.controls
        prepares = bool(added) and isinstance(self._engine, Preparing)
        if not self.request.input_keys and not prepares:
            self.stage = Stage.READY
            return
        self._inputs = self._delivery.submit(self._gather)
        self._inputs.add_done_callback(lambda _: then())

    def _gather(self) -> Inputs:
        """In a delivery thread: all that the engine should not have to wait for."""
        if isinstance(self._engine, Preparing):
            self._engine.prepare(self.request)
        return self._delivery.inputs(self.request)

    @property
    def fetched(self) -> bool:
        return self._inputs is None or self._inputs.done()

    def admitted(self) -> AdmittedJob:
        """The job as the engine wants it. Raises DarkroomError if its inputs cannot be had."""
        inputs = self._inputs.result() if self._inputs else Inputs()
        self.trace.admitted()
        return AdmittedJob(
            self.claim.job_id,
            self.request,
            inputs.image,
            inputs.mask,
            listener=self,
            priority=list(Priority).index(self.request.priority),
            deadline_at=self.deadline_at,
            controls=inputs.controls,
        )

    def end(self, outcome: DarkroomError) -> None:
        """Let it end with an error, from a delivery thread."""
        self.stage = Stage.DELIVERING
        self._delivery.submit_ending(self._on_end, self, outcome)

    def on_progress(self, step: int, steps: int) -> None:
        self.trace.stepped(step)
        self._report(Phase.DENOISE if step < steps else Phase.DECODE, step, steps)

    def on_preview(self, pixels: Pixels) -> None:
        if isinstance(self._engine, Screening) and self._engine.hides(self.request):
            return
        # One at a time: a store or a Redis that is slow must not see them pile up.
        if self._previewing is None or self._previewing.done():
            self._previewing = self._delivery.submit(self._show, pixels)

    def _show(self, pixels: Pixels) -> None:
        self._reporter.show(self.claim.job_id, encode_preview(pixels))
        self._previews += 1

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        self._pictures[index] = self._delivery.submit(self._picture, index, pixels, seed)

    def _picture(self, index: int, pixels: Pixels, seed: int) -> ImageResult:
        """In a delivery thread: a picture looked at, and what is to be shown of it stored."""
        engine = self._engine
        screened = engine.screen(self.request, pixels) if isinstance(engine, Screening) else None
        screened = screened or Screened(pixels)
        job_id = self.claim.job_id
        stored = self._delivery.image(job_id, index, screened.pixels, self.request, seed)
        return stored.model_copy(update={"finish_reason": screened.finish_reason})

    def on_done(self, timings: EngineTimings) -> None:
        self.stage = Stage.DELIVERING
        self.trace.drawn(timings)
        self._report(Phase.DELIVER)
        self._delivery.submit(self._deliver, timings, time.monotonic())

    def on_error(self, error: DarkroomError) -> None:
        self.end(error)

    def _deliver(self, spent: EngineTimings, drawn: float) -> None:
        """Wait for the pictures to be stored, and only then call the job done."""
        outcome: JobResult | DarkroomError
        try:
            images = tuple(self._pictures[index].result() for index in sorted(self._pictures))
            outcome = JobResult(images=images, timings=self._timings(spent, drawn))
        except DarkroomError as error:
            outcome = error
        except Exception:
            logger.exception("delivery failed", extra=self.claim.names)
            outcome = DarkroomError()
        self._on_end(self, outcome)

    def _timings(self, spent: EngineTimings, drawn: float) -> Timings:
        return Timings(
            queued=self.waited_s,
            encode=spent.encode,
            denoise=spent.denoise,
            decode=spent.decode,
            deliver=time.monotonic() - drawn,
            total=max(0.0, time.time() - (self._queued_at or self._claimed_at)),
        )

    def _report(self, phase: Phase, step: int = 0, steps: int = 0) -> None:
        self._reporter.note(
            Progress(
                job_id=self.claim.job_id,
                state=JobState.RUNNING,
                step=step,
                steps=steps,
                phase=phase,
                previews=self._previews,
            )
        )


def _seconds_since_epoch(rq_time: str) -> float | None:
    """RQ's way to write a time, read; None if it is not one."""
    try:
        moment = datetime.strptime(rq_time, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).timestamp()
