"""fal's answers: the images of a request, and its place in the queue."""

from typing import Literal

from pydantic import BaseModel, Field

from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.job import FinishReason, JobView
from service.schemas.requests import ResponseKind
from service.schemas.response_builder import ResponseBuilder
from service.schemas.responses import ImageResponse

FILE_NAME = "darkroom"


class FalImage(BaseModel):
    """One image. `url` is an address, or a data URI with `sync_mode`."""

    url: str
    width: int | None = None
    height: int | None = None
    content_type: str
    file_name: str | None = None
    file_size: int | None = None


class FalTimings(BaseModel):
    """Seconds that a request took once a worker had begun it."""

    inference: float


class FalResult(BaseModel):
    """The images of a finished request, in order of their seeds; `seed` is that of the first."""

    images: list[FalImage]
    seed: int
    prompt: str
    has_nsfw_concepts: list[bool] = Field(
        description="True for an image that the model's safety checker has flagged."
    )
    timings: FalTimings


class FalPartialResult(BaseModel):
    """A preview of a request that runs, after `step` of `steps`."""

    images: list[FalImage]
    step: int
    steps: int


class FalQueued(BaseModel):
    """A request in the queue, and the addresses that belong to it."""

    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    status: Literal["IN_QUEUE"] = "IN_QUEUE"
    queue_position: int


class FalLog(BaseModel):
    """A line of a request's log."""

    message: str
    timestamp: str
    level: Literal["INFO"] = "INFO"
    source: Literal["USER"] = "USER"


class FalMetrics(BaseModel):
    """Seconds that a request took once a worker had begun it."""

    inference_time: float | None = None


class FalStatus(BaseModel):
    """The state of a request. `logs` are null unless the client asks for them."""

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    queue_position: int | None = None
    logs: list[FalLog] | None = None
    metrics: FalMetrics | None = None
    error: str | None = Field(default=None, description="Why a request has failed.")
    error_type: str | None = None


class FalCancelled(BaseModel):
    """The answer to a cancellation."""

    status: Literal["CANCELLATION_REQUESTED", "ALREADY_COMPLETED"]
    detail: str


def result_of(job: JobView, kept: DialectObject, responses: ResponseBuilder) -> FalResult:
    """Return the result of a finished job; it may block while it reads the store.

    Raises `UnknownImage` if an image is gone, and `InvalidRequest` if they are too large for
    data URIs.
    """
    inline = kept.data.get("sync_mode") is True
    kind = ResponseKind.BASE64 if inline else ResponseKind.URL
    done = responses.images(job, kind)
    return FalResult(
        images=[_image(image) for image in done.images],
        seed=done.images[0].seed,
        prompt=str(kept.data.get("prompt", "")),
        has_nsfw_concepts=[one.finish_reason is not FinishReason.SUCCESS for one in done.images],
        timings=FalTimings(inference=inference_s(job)),
    )


def inference_s(job: JobView) -> float:
    """Return the seconds from the beginning of a finished job to its end."""
    assert job.result
    return round(job.result.timings.total - job.result.timings.queued, 3)


def _image(image: ImageResponse) -> FalImage:
    content_type = image.format.content_type
    return FalImage(
        url=image.url or f"data:{content_type};base64,{image.base64}",
        width=image.width,
        height=image.height,
        content_type=content_type,
        file_name=f"{FILE_NAME}-{image.seed}.{image.format}",
        file_size=image.bytes,
    )
