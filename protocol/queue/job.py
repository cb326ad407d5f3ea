"""A job as clients see it: its state, its progress and its result."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from protocol.errors import ErrorRecord
from protocol.record import Float, Int, Record
from protocol.request.fields import Seed, Side
from protocol.request.object_keys import (
    EXTRA_KEY,
    JOB_ID,
    RESULT_KEY,
    Extra,
    ExtraFormat,
    OutputFormat,
)

Seconds = Annotated[Float, Field(ge=0)]
Count = Annotated[Int, Field(ge=0)]
JobId = Annotated[str, Field(pattern=JOB_ID)]


class JobState(StrEnum):
    """The state of a job. It moves down this list; only a dead worker's job is queued again."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED})


class Phase(StrEnum):
    """The work on a job at a moment; `load`: loading the model of a waiting job."""

    LOAD = "load"
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    DELIVER = "deliver"


class FinishReason(StrEnum):
    """The outcome of one image.

    `content_filtered`: the model's safety checker has flagged it; a setting of the operator decides
    whether it is shown.
    """

    SUCCESS = "success"
    CONTENT_FILTERED = "content_filtered"


class ExtraFile(Record):
    """An extra output of an image: its key in the store and its kind."""

    kind: Extra
    key: Annotated[str, Field(pattern=EXTRA_KEY)]
    format: ExtraFormat
    bytes: Count


class ImageResult(Record):
    """One finished image: its key in the store and its properties. `bytes`: the file size."""

    key: Annotated[str, Field(pattern=RESULT_KEY)]
    seed: Seed
    width: Side
    height: Side
    format: OutputFormat
    bytes: Count
    extras: tuple[ExtraFile, ...] = ()
    finish_reason: FinishReason = FinishReason.SUCCESS


class Timings(Record):
    """Seconds spent in each phase of a job; `total` runs from submission to delivery."""

    queued: Seconds = 0.0
    encode: Seconds = 0.0
    denoise: Seconds = 0.0
    decode: Seconds = 0.0
    deliver: Seconds = 0.0
    total: Seconds = 0.0


class JobResult(Record):
    """The result of a finished job, images in order of their index."""

    images: tuple[ImageResult, ...]
    timings: Timings


class Progress(Record):
    """The progress of a job: `step` of `steps` denoising steps, over all its images together.

    For a waiting job: the progress of loading its model, in percent. `previews` counts the times
    that previews were made, of which the latest are stored separately. The message that it has
    finished may carry its `result`.
    """

    job_id: JobId
    state: JobState
    step: Count = 0
    steps: Count = 0
    phase: Phase | None = None
    previews: Count = 0
    result: JobResult | None = None


class RequestWarning(Record):
    """A remark on an accepted request: it can be carried out, but may not be what was meant.

    `code` is one of a fixed set, `field` the request's field, `detail` a sentence for a person.
    """

    code: Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$", examples=["mask-empty"])]
    field: str
    detail: str


Warnings = tuple[RequestWarning, ...]


class JobView(Record):
    """A job at one moment.

    `position` counts the jobs ahead of it while it is queued (0 = next), and `eta_s` is the time
    those will take at the recent rate, if known. `due_s` are the seconds until its deadline, until
    it ends. `result` is set once it has finished, `error` once it has failed. `warnings` are those
    of its request, in every state.
    """

    id: JobId
    state: JobState
    position: Count | None = None
    eta_s: Seconds | None = None
    due_s: Seconds | None = None
    progress: Progress | None = None
    result: JobResult | None = None
    error: ErrorRecord | None = None
    warnings: Warnings = ()
