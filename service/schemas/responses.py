"""What the generation and job routes answer: jobs and pictures in the words of the API."""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from protocol.errors import DarkroomError, QueueUnavailable
from protocol.queue.job import (
    ExtraFile,
    FinishReason,
    ImageResult,
    JobState,
    JobView,
    Phase,
    Timings,
)
from protocol.queue.progress import ProgressBoard
from protocol.request.object_keys import Extra, ExtraFormat, OutputFormat
from protocol.storage.object_store import ObjectStore
from service.schemas.problems import Problem, problem
from service.schemas.requests import ResponseKind


class ExtraAnswer(BaseModel):
    """A file that comes with a picture. `base64` or `url`, as for the picture."""

    kind: Extra = Field(
        description="depth: a grey PNG of 16 bits, the nearer the brighter. sound: as asked for."
    )
    format: ExtraFormat
    bytes: int = Field(description="The size of the file.")
    base64: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    url: str | None = None


class ImageAnswer(BaseModel):
    """One picture. `base64` or `url`, as the request asked for."""

    index: int
    seed: int = Field(description="The seed that draws this very picture, with n = 1.")
    width: int
    height: int
    format: OutputFormat
    bytes: int = Field(description="The size of the file.")
    finish_reason: FinishReason = Field(
        default=FinishReason.SUCCESS,
        description="content_filtered: the model's safety checker has flagged it, and the picture "
        "may be one that says so instead.",
    )
    base64: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    url: str | None = None
    extras: list[ExtraAnswer] | None = Field(
        default=None, description="What the model gives beside the picture."
    )


class GenerationAnswer(BaseModel):
    """Finished pictures, in order of their index. `timings` are in seconds."""

    id: str
    images: list[ImageAnswer]
    timings: Timings


class ProgressAnswer(BaseModel):
    """Denoising steps done, of all there are; in phase `load`, how far the model is loaded."""

    step: int
    steps: int
    phase: Phase | None = None
    preview: str | None = Field(
        default=None,
        description="How it comes on: a JPEG, if the request asked for previews.",
        json_schema_extra={"contentEncoding": "base64"},
    )


class JobAnswer(BaseModel):
    """A job as it is now. `position`: how many are ahead of it; `error`: why it failed.

    `eta_s`: how many seconds those ahead will take at the rate of late, where that is known.
    """

    id: str
    state: JobState
    position: int | None = None
    eta_s: float | None = None
    progress: ProgressAnswer | None = None
    result: GenerationAnswer | None = None
    error: Problem | None = None


@dataclass(frozen=True)
class Answers:
    """Puts jobs into the API's words. `link` makes the URL of a picture served by this service."""

    store: ObjectStore
    board: ProgressBoard
    image_url_ttl_s: int
    link: Callable[[str, int], str]

    async def job(self, view: JobView, seen: int = 0) -> JobAnswer:
        """The job, with its latest preview if it has made more of them than were `seen`.

        Only for that and for a finished job must be asked elsewhere, in a thread.
        """
        preview = None
        if previews_of(view) > seen:
            preview = await run_in_threadpool(self._preview, view.id)
        if view.result is None:
            return self._job(view, preview)
        return await run_in_threadpool(self._job, view)

    def _preview(self, job_id: str) -> str | None:
        """An outage must not end a stream of events, for want of a preview."""
        with suppress(QueueUnavailable):
            if jpeg := self.board.preview(job_id):
                return base64.b64encode(jpeg).decode()
        return None

    def _job(self, view: JobView, preview: str | None = None) -> JobAnswer:
        error = view.error and problem(DarkroomError.from_record(view.error))
        return JobAnswer(
            id=view.id,
            state=view.state,
            position=view.position,
            eta_s=view.eta_s,
            progress=_progress(view, preview),
            result=self.pictures(view, ResponseKind.URL) if view.result else None,
            error=error,
        )

    def pictures(self, view: JobView, kind: ResponseKind) -> GenerationAnswer:
        """The pictures of a finished job; blocks while the store is read for base64."""
        assert view.result
        images = [
            self._picture(view.id, index, image, kind)
            for index, image in enumerate(view.result.images)
        ]
        return GenerationAnswer(id=view.id, images=images, timings=view.result.timings)

    def _picture(
        self, job_id: str, index: int, image: ImageResult, kind: ResponseKind
    ) -> ImageAnswer:
        answer = ImageAnswer(
            index=index,
            seed=image.seed,
            width=image.width,
            height=image.height,
            format=image.format,
            bytes=image.bytes,
            finish_reason=image.finish_reason,
            **self._file(image.key, self.link(job_id, index), kind),
        )
        if image.extras:
            answer.extras = [self._extra(job_id, index, extra, kind) for extra in image.extras]
        return answer

    def _extra(self, job_id: str, index: int, extra: ExtraFile, kind: ResponseKind) -> ExtraAnswer:
        link = f"{self.link(job_id, index)}/{extra.kind.value}"
        return ExtraAnswer(
            kind=extra.kind,
            format=extra.format,
            bytes=extra.bytes,
            **self._file(extra.key, link, kind),
        )

    def _file(self, key: str, link: str, kind: ResponseKind) -> dict[str, str]:
        match kind:
            case ResponseKind.BASE64:
                return {"base64": base64.b64encode(self.store.get(key)).decode()}
            case ResponseKind.URL:
                return {"url": self._signed(key) or link}

    def _signed(self, key: str) -> str | None:
        """A URL of the store's own, where it has such and clients can reach it."""
        return self.store.presign(key, self.image_url_ttl_s) if self.image_url_ttl_s else None


def json_response(
    answer: GenerationAnswer | JobAnswer, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The answer as it goes out; it was made here, so nobody needs to validate it again."""
    body = answer.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def previews_of(view: JobView) -> int:
    """How many previews a job has made while it runs."""
    return view.progress.previews if view.progress and view.state is JobState.RUNNING else 0


def _progress(view: JobView, preview: str | None) -> ProgressAnswer | None:
    """Steps done, once it is known how many there are."""
    if view.progress is None or view.progress.steps == 0:
        return None
    told = view.progress.model_dump(include={"step", "steps", "phase"})
    return ProgressAnswer.model_validate(told | {"preview": preview})
