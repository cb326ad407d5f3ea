"""Response schemas of the generation and job routes."""

from typing import Annotated

from pydantic import BaseModel, Field

from protocol.queue.job import FinishReason, JobState, Phase, Timings, Warnings
from protocol.request.object_keys import Extra, ExtraFormat, OutputFormat
from service.schemas.problem import Problem

ResponseWarnings = Annotated[
    Warnings, Field(description="What may not be meant so, such as a mask that marks nothing.")
]


class ExtraResponse(BaseModel):
    """A file that comes with an image. `base64` or `url`, as for the image."""

    kind: Extra = Field(
        description="depth: a grey PNG of 16 bits, the nearer the brighter. sound: as asked for."
    )
    format: ExtraFormat
    bytes: int = Field(description="The size of the file.")
    base64: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    url: str | None = None


class ImageResponse(BaseModel):
    """One image. `base64` or `url`, as the request asked for."""

    index: int
    seed: int = Field(description="The seed that generates exactly this image, with n = 1.")
    width: int
    height: int
    format: OutputFormat
    bytes: int = Field(description="The size of the file.")
    finish_reason: FinishReason = Field(
        default=FinishReason.SUCCESS,
        description="content_filtered: the model's safety checker has flagged it, and the image "
        "may be one that says so instead.",
    )
    base64: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    url: str | None = None
    extras: list[ExtraResponse] | None = Field(
        default=None, description="Files that the model gives in addition to the image."
    )


class GenerationResponse(BaseModel):
    """Finished images, in order of their index. `timings` are in seconds."""

    id: str
    images: list[ImageResponse]
    timings: Timings
    warnings: ResponseWarnings = ()


class PreviewResponse(BaseModel):
    """A small JPEG of the image with this index."""

    index: int
    base64: str = Field(json_schema_extra={"contentEncoding": "base64"})


class ProgressResponse(BaseModel):
    """Denoising steps done and in total; in phase `load`, how much of the model is loaded."""

    step: int
    steps: int
    phase: Phase | None = None
    preview: str | None = Field(
        default=None,
        description="A preview of the first unfinished image as a JPEG, if the request asked for "
        "previews.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    previews: list[PreviewResponse] | None = Field(
        default=None,
        description="Of a job of several images: the previews of all that have a new one.",
    )


class JobResponse(BaseModel):
    """The current state of a job. `position`: jobs ahead of it; `error`: why it failed.

    `eta_s`: how many seconds the jobs ahead will take at the recent rate, where that is known.
    """

    id: str
    state: JobState
    position: int | None = None
    eta_s: float | None = None
    progress: ProgressResponse | None = None
    result: GenerationResponse | None = None
    error: Problem | None = None
    warnings: ResponseWarnings = ()
