"""A prediction: Replicate's object for a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from protocol.errors import DarkroomError
from protocol.queue.dialect_jobs import DialectJob, DialectObject
from protocol.queue.job import JobState, JobView, Timings
from service.dialects.replicate.logs import logs_of
from service.routes.deps import Services
from service.schemas.problems import problem_of
from service.schemas.requests import ResponseKind
from service.settings import DialectName

PATH = "/v1/predictions"


class Status(StrEnum):
    """The states of a prediction. One that has not ended when its client is answered is starting:
    clients that wait take every other state for the end."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


STATUSES = {
    JobState.QUEUED: Status.STARTING,
    JobState.RUNNING: Status.PROCESSING,
    JobState.FINISHED: Status.SUCCEEDED,
    JobState.FAILED: Status.FAILED,
    JobState.CANCELLED: Status.CANCELED,
}


class PredictionUrls(BaseModel):
    """The addresses of a prediction. That of the stream needs no key for a day."""

    get: str
    cancel: str
    stream: str


class PredictionMetrics(BaseModel):
    """Seconds that a prediction took: to generate its images, and in all."""

    predict_time: float
    total_time: float
    image_count: int


class Prediction(BaseModel):
    """A prediction. `output` has the addresses of its images, which need no key for a day."""

    id: str
    model: str = Field(examples=["darkroom/emoji"])
    version: str
    input: dict[str, JsonValue] = Field(description="As it was sent, without the data of files.")
    output: list[str] | None = None
    logs: str = Field(default="", description="The progress, as tqdm writes it.")
    error: str | None = None
    status: Status
    source: str = "api"
    data_removed: bool = False
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metrics: PredictionMetrics | None = None
    urls: PredictionUrls


class PredictionPage(BaseModel):
    """A page of predictions, the newest first; `next` is the address of the next page."""

    previous: str | None = None
    next: str | None = None
    results: list[Prediction]


@dataclass(frozen=True)
class PredictionData:
    """The data of a prediction that is kept beside its job; `steps`: of all its images."""

    model: str
    version: str
    input: dict[str, JsonValue]
    steps: int

    def kept(self) -> DialectObject:
        """Return it as it is kept. Raises `InvalidRequest` if it is too large."""
        kept = DialectObject(dialect=DialectName.REPLICATE, data=dict(vars(self)))
        kept.check_size("input")
        return kept

    @classmethod
    def of(cls, job: DialectJob) -> "PredictionData":
        """Return what was kept."""
        data: Mapping[str, Any] = job.object.data
        return cls(**data)


@dataclass(frozen=True)
class PredictionBuilder:
    """Makes predictions from jobs; `base_url` is that of their addresses. It blocks."""

    services: Services
    base_url: str

    def prediction(self, view: JobView, job: DialectJob) -> Prediction:
        """Return a job as a prediction."""
        data = PredictionData.of(job)
        ended = STATUSES[view.state] not in (Status.STARTING, Status.PROCESSING)
        return Prediction(
            id=view.id,
            model=data.model,
            version=data.version,
            input=data.input,
            output=self._output(view),
            logs=logs_of(view, data.steps),
            error=_error(view),
            status=STATUSES[view.state],
            created_at=job.created_at,
            started_at=None if view.state is JobState.QUEUED else job.started_at,
            completed_at=job.ended_at if ended else None,
            metrics=_metrics(view),
            urls=self._urls(view.id),
        )

    def _output(self, view: JobView) -> list[str] | None:
        """Return the addresses of the images of a finished job."""
        if view.result is None:
            return None
        responses = self.services.response_builder(self.base_url)
        images = responses.images(view, ResponseKind.URL).images
        return [image.url for image in images if image.url is not None]

    def _urls(self, job_id: str) -> PredictionUrls:
        path = f"{PATH}/{job_id}"
        url, stream = self.base_url + path, f"{path}/stream"
        needed = self.services.settings.keys_needed
        query = self.services.url_signer.query(stream) if needed else ""
        return PredictionUrls(
            get=url, cancel=f"{url}/cancel", stream=f"{self.base_url}{stream}{query}"
        )


def _error(view: JobView) -> str | None:
    if view.error is None:
        return None
    return problem_of(DarkroomError.from_record(view.error)).detail


def _metrics(view: JobView) -> PredictionMetrics | None:
    if view.result is None:
        return None
    spent: Timings = view.result.timings
    return PredictionMetrics(
        predict_time=spent.encode + spent.denoise + spent.decode,
        total_time=spent.total,
        image_count=len(view.result.images),
    )
