"""A job as the outside sees it: where it stands, how far it is, what came of it."""

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
    """Where a job stands: it moves down this list, save that a dead worker's is queued again."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED})


class Phase(StrEnum):
    """What a worker is doing for a job; `load`: it loads the model that a waiting job is for."""

    LOAD = "load"
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    DELIVER = "deliver"


class FinishReason(StrEnum):
    """How a picture came out. `content_filtered`: the model's safety checker has flagged it; the
    operator decides whether it is shown nevertheless."""

    SUCCESS = "success"
    CONTENT_FILTERED = "content_filtered"


class ExtraFile(Record):
    """A file that comes with a picture: where it is kept and what it is."""

    kind: Extra
    key: Annotated[str, Field(pattern=EXTRA_KEY)]
    format: ExtraFormat
    bytes: Count


class ImageResult(Record):
    """One finished picture: where it is kept and what it is. `bytes` is the size of the file."""

    key: Annotated[str, Field(pattern=RESULT_KEY)]
    seed: Seed
    width: Side
    height: Side
    format: OutputFormat
    bytes: Count
    extras: tuple[ExtraFile, ...] = ()
    finish_reason: FinishReason = FinishReason.SUCCESS


class Timings(Record):
    """Seconds spent in each part of a job's life; `total` runs from queueing to delivery."""

    queued: Seconds = 0.0
    encode: Seconds = 0.0
    denoise: Seconds = 0.0
    decode: Seconds = 0.0
    deliver: Seconds = 0.0
    total: Seconds = 0.0


class JobResult(Record):
    """What a finished job made, pictures in order of their index."""

    images: tuple[ImageResult, ...]
    timings: Timings


class Progress(Record):
    """How far a job is: `step` of `steps` denoising steps done, over all its pictures together; of
    a waiting one, how far its model is loaded, in parts of 100.

    `previews` counts those made so far, of which the latest is kept apart. The news that it has
    finished may carry its `result`.
    """

    job_id: JobId
    state: JobState
    step: Count = 0
    steps: Count = 0
    phase: Phase | None = None
    previews: Count = 0
    result: JobResult | None = None


class JobView(Record):
    """A job at one moment.

    `position` counts the jobs ahead of it while it is queued (0 = next), and `eta_s` is how long
    those will take at the rate of late, if that is known; `result` is there once it has finished,
    `error` once it has failed.
    """

    id: JobId
    state: JobState
    position: Count | None = None
    eta_s: Seconds | None = None
    progress: Progress | None = None
    result: JobResult | None = None
    error: ErrorRecord | None = None
