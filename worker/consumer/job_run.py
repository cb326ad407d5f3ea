"""One claimed job, from its claim to its ending."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from enum import Enum, auto

from protocol.errors import DarkroomError, DeadlineExceeded
from protocol.queue.job import ImageResult, JobResult, JobState, Phase, Progress, Timings
from protocol.queue.progress import Previews
from protocol.request.request import GenerationRequest, Priority
from worker.consumer.context import WorkerContext
from worker.consumer.leases import Claim
from worker.consumer.tracing import JobTrace
from worker.interfaces import AdmittedJob, JobListener, Pixels
from worker.output.image_files import encode_preview
from worker.output.paste import Pasted, pasted

logger = logging.getLogger(__name__)

# Called in an output thread with the job's result, or the reason why there is none.
OnEnd = Callable[["JobRun", JobResult | DarkroomError], None]


class Stage(Enum):
    """The part of the worker that a job is in."""

    WAITING = auto()  # its inputs are being read, or the engine has no room
    RUNNING = auto()  # in the engine
    DELIVERING = auto()  # out of the engine: encoding, storing, writing the ending
    ABORTED = auto()  # this worker neither runs nor ends it


NEXT_STAGES = {
    Stage.WAITING: {Stage.RUNNING, Stage.DELIVERING, Stage.ABORTED},
    Stage.RUNNING: {Stage.DELIVERING, Stage.ABORTED},
    Stage.DELIVERING: {Stage.ABORTED},
    Stage.ABORTED: {Stage.ABORTED},
}


class JobRun(JobListener):
    """A claimed job: passes it to the engine, listens to it, and delivers its images.

    `stage` belongs to the consumer's thread, which is also the one that the engine calls back from.
    """

    def __init__(
        self, context: WorkerContext, claim: Claim, request: GenerationRequest, on_end: OnEnd
    ) -> None:
        self.claim = claim
        self.request = request
        self.stage = Stage.WAITING
        self.cancel_requested = False  # set from any thread
        self.lease_lost = False  # set from any thread
        self._context = context
        self._on_end = on_end
        self._began = time.monotonic()
        self.trace = JobTrace(context.tracing, claim)
        self._inputs: dict[str, bytes] = {}
        self._inputs_read: Future[None] | None = None
        self._images: dict[int, Future[ImageResult]] = {}
        self._previews = 0
        self._previews_sent: Future[None] | None = None

    @property
    def queued_s(self) -> float:
        """Seconds that the job waited in the queue; 0 if that is not known."""
        return self.claim.queued_s or 0.0

    @property
    def active(self) -> bool:
        """True while an abort loses nothing but time."""
        return self.stage in (Stage.WAITING, Stage.RUNNING)

    @property
    def ready(self) -> bool:
        """True if the job waits only for room in the engine."""
        read = self._inputs_read is None or self._inputs_read.done()
        return self.stage is Stage.WAITING and read

    @property
    def overdue(self) -> DeadlineExceeded | None:
        """The error of a job whose deadline or time limit has passed."""
        left_s, timeout_s = self.claim.time_left_s, self._context.settings.job_timeout_s
        run_s = time.monotonic() - self._began
        if left_s is not None and run_s > left_s:
            return DeadlineExceeded(self.request.deadline_s or round(self.queued_s + left_s))
        return DeadlineExceeded(timeout_s) if run_s > timeout_s else None

    def prepare(self, on_ready: Callable[[], None]) -> None:
        """Read the input images and load the extra networks, in an output thread, if there are any.

        `on_ready` is called from there.
        """
        self._report(Phase.ENCODE)
        request = self.request
        if request.input_keys or request.loras or request.controls or request.upscalers:
            self._inputs_read = self._context.output.submit(self._read_inputs)
            self._inputs_read.add_done_callback(lambda _: on_ready())

    def _read_inputs(self) -> None:
        self._context.engine.prepare(self.request)
        self._inputs = self._context.output.read_inputs(self.request.input_keys)

    def admit(self) -> None:
        """Pass the job to the engine. Raises any error of it that is not a DarkroomError."""
        self._move_to(Stage.RUNNING)
        try:
            if self._inputs_read is not None:
                self._inputs_read.result()
            self.trace.admitted()
            request, left_s = self.request, self.claim.time_left_s
            job = AdmittedJob(
                self.claim.job_id,
                request,
                self._inputs.get(request.image_key or ""),
                self._inputs.get(request.mask_key or ""),
                listener=self,
                priority=list(Priority).index(request.priority),
                deadline_at=None if left_s is None else self._began + left_s,
                controls=tuple(self._inputs[control.image_key] for control in request.controls),
                depth_map=self._inputs.get(request.depth_map_key or ""),
            )
            self._context.engine.admit(job)
        except DarkroomError as error:
            self.on_error(error)

    def fail(self, error: DarkroomError) -> None:
        """Take the job out of the engine, and end it with `error`."""
        self._context.engine.cancel(self.claim.job_id)
        self.on_error(error)

    def abort(self) -> None:
        """Take the job out of the engine, and leave its ending to the caller."""
        self._context.engine.cancel(self.claim.job_id)
        self._move_to(Stage.ABORTED)
        self.trace.ended("aborted")

    def _move_to(self, stage: Stage) -> None:
        assert stage in NEXT_STAGES[self.stage], f"{self.stage.name} -> {stage.name}"
        self.stage = stage

    def on_progress(self, step: int, steps: int) -> None:
        self.trace.stepped(step)
        self._report(Phase.DENOISE if step < steps else Phase.DECODE, step, steps)

    def on_previews(self, pixels: Mapping[int, Pixels]) -> None:
        if self._context.engine.may_hide(self.request):
            return
        # One at a time, so that they do not pile up behind a slow store or a slow Redis.
        if self._previews_sent is None or self._previews_sent.done():
            self._previews_sent = self._context.output.submit(
                self._send_previews, pixels, self._first_unfinished
            )

    @property
    def _first_unfinished(self) -> int:
        return next(index for index in range(self.request.n) if index not in self._images)

    def _send_previews(self, pixels: Mapping[int, Pixels], first: int) -> None:
        number = self._previews + 1
        jpegs = {index: encode_preview(image) for index, image in pixels.items()}
        each = jpegs if self.request.n > 1 else {}
        self._context.reporter.show(self.claim.job_id, Previews(jpegs.get(first), each, number))
        self._previews = number

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        self._images[index] = self._context.output.submit(self._write, index, pixels, seed)

    def _write(self, index: int, pixels: Pixels, seed: int) -> ImageResult:
        result = pasted(pixels, self.request, self._inputs)
        shown, reason = self._context.engine.screen(self.request, result.pixels)
        # An image that hides the result has no alpha of it.
        alpha = result.alpha if shown is result.pixels else None
        output, job_id = self._context.output, self.claim.job_id
        stored = output.write_image(job_id, index, Pasted(shown, alpha), self.request, seed)
        return stored.model_copy(update={"finish_reason": reason})

    def on_done(self, timings: Timings) -> None:
        self._move_to(Stage.DELIVERING)
        self.trace.generated(timings)
        self._report(Phase.DELIVER)
        self._context.output.submit(self._deliver, timings, time.monotonic())

    def on_error(self, error: DarkroomError) -> None:
        self._move_to(Stage.DELIVERING)
        self._context.output.submit_ending(self._on_end, self, error)

    def _deliver(self, timings: Timings, generated_at: float) -> None:
        """Wait until every image is stored, then end the job; `timings` are those of the engine."""
        outcome: JobResult | DarkroomError
        try:
            images = tuple(self._images[index].result() for index in sorted(self._images))
            spent = {
                "queued": self.queued_s,
                "deliver": time.monotonic() - generated_at,
                "total": self.queued_s + time.monotonic() - self._began,
            }
            outcome = JobResult(images=images, timings=timings.model_copy(update=spent))
        except DarkroomError as error:
            outcome = error
        except Exception:
            logger.exception("delivery failed", extra=self.claim.names)
            outcome = DarkroomError()
        self._on_end(self, outcome)

    def _report(self, phase: Phase, step: int = 0, steps: int = 0) -> None:
        self._context.reporter.note(
            Progress(
                job_id=self.claim.job_id,
                state=JobState.RUNNING,
                step=step,
                steps=steps,
                phase=phase,
                previews=self._previews,
            )
        )
