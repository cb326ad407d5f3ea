"""Models of the answers that the commands read, all checked: another program may answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from protocol.queue.job import FinishReason, JobState

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # safe in a path or a file name


class Answer(BaseModel):
    """The fields that are used; a newer server may send others."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class HealthAnswer(Answer):
    """The answer of a live Darkroom."""

    status: Literal["ok"]


class ModelAnswer(Answer):
    """A model that the server offers."""

    name: str
    aliases: tuple[str, ...] = ()
    tasks: tuple[str, ...]
    default_width: int
    default_height: int
    default_steps: int
    default_sampler: str
    ready: bool
    loading: float | None = None
    trouble: str | None = None
    on_demand: bool = False


class ModelsAnswer(Answer):
    """All models that the server offers."""

    models: tuple[ModelAnswer, ...]


class SubmittedAnswer(Answer):
    """A job that was accepted."""

    id: Word


class ProgressAnswer(Answer):
    """Denoising steps of a job."""

    step: int = 0
    steps: int = 0


class ErrorAnswer(Answer):
    """The error of a job, as a problem or as a record."""

    detail: str | None = None
    message: str | None = None


class ProblemAnswer(Answer):
    """A problem (RFC 9457)."""

    detail: str | None = None
    title: str | None = None


class ExtraFile(Answer):
    """A file in addition to an image, such as depth or sound."""

    kind: Word
    format: Word


class ImageAnswer(Answer):
    """An image of a finished job."""

    index: int
    finish_reason: FinishReason = FinishReason.SUCCESS
    extras: tuple[ExtraFile, ...] | None = None


class ResultAnswer(Answer):
    """The images of a finished job."""

    images: tuple[ImageAnswer, ...]


class WarningAnswer(Answer):
    """A remark about a request."""

    detail: str


class JobAnswer(Answer):
    """A job, and its result once it has finished."""

    state: JobState
    position: int | None = None
    progress: ProgressAnswer | None = None
    error: ErrorAnswer | None = None
    result: ResultAnswer | None = None
    warnings: tuple[WarningAnswer, ...] = ()

    @property
    def reason(self) -> str:
        """Return the reason for which the job has no result."""
        error = self.error or ErrorAnswer()
        return error.detail or error.message or f"the job is {self.state}"


class StreamProblem(ProblemAnswer):
    """The problem with which a server ends an event stream."""

    status: int

    @property
    def reason(self) -> str:
        """Return the reason for which the stream ended."""
        return self.detail or self.title or f"the server ended the stream with {self.status}"


class EventAnswer(RootModel[JobAnswer | StreamProblem]):
    """An event of a job's stream."""
