"""Builds the responses of the generation and job routes from the records of the queue."""

import base64
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from protocol.errors import DarkroomError, InvalidRequest, QueueUnavailable
from protocol.queue.job import ExtraFile, ImageResult, JobState, JobView
from protocol.queue.job_list import ListedJob
from protocol.queue.progress import ProgressBoard
from protocol.storage.object_store import ObjectStore
from service.schemas.job_list import ListedJobResponse
from service.schemas.problems import problem_of
from service.schemas.requests import ResponseKind
from service.schemas.responses import (
    ExtraResponse,
    GenerationResponse,
    ImageResponse,
    JobResponse,
    PreviewResponse,
    ProgressResponse,
)

MAX_BASE64 = 64_000_000  # characters of all files in an answer

Previews = dict[str, str | list[PreviewResponse] | None]  # fields of `ProgressResponse`


@dataclass(frozen=True)
class ResponseBuilder:
    """Converts jobs to responses.

    `link` makes the URL of an image, or of one of its files, from its ending.
    """

    store: ObjectStore
    board: ProgressBoard
    image_url_ttl_s: int
    link: Callable[[str, int, str], str]

    async def job(self, view: JobView, seen: int = 0) -> JobResponse:
        """Return a job, with its latest previews if they were made more often than `seen`.

        Blocking calls, for the previews and for a finished job, run in a thread.
        """
        previews: Previews = {}
        if previews_of(view) > seen:
            previews = await run_in_threadpool(self._previews, view.id, seen)
        if view.result is None:
            return self.job_now(view, previews)
        return await run_in_threadpool(self.job_now, view)

    def _previews(self, job_id: str, seen: int) -> Previews:
        """Return fields of the progress; none during an outage, which must not end a stream."""
        with suppress(QueueUnavailable):
            made = self.board.previews(job_id, seen)
            images = [PreviewResponse(index=n, base64=_base64(one)) for n, one in made.each.items()]
            first = _base64(made.first) if made.first else None
            return {"preview": first, "previews": images or None}
        return {}

    def job_now(self, view: JobView, previews: Previews | None = None) -> JobResponse:
        """Return a job; for one that has finished it blocks."""
        error = view.error and problem_of(DarkroomError.from_record(view.error))
        return JobResponse(
            id=view.id,
            state=view.state,
            position=view.position,
            eta_s=view.eta_s,
            progress=_progress(view, previews or {}),
            result=self.images(view, ResponseKind.URL) if view.result else None,
            error=error,
            warnings=view.warnings,
        )

    def listed(self, jobs: Iterable[ListedJob]) -> list[ListedJobResponse]:
        """Return jobs of a list, without previews; it may block while it signs addresses."""
        return [
            ListedJobResponse(
                **self.job_now(job.view).model_dump(),
                model=job.model,
                task=job.task,
                created_at=job.created_at,
            )
            for job in jobs
        ]

    def images(self, view: JobView, kind: ResponseKind) -> GenerationResponse:
        """Return the images of a finished job; for base64 it blocks while it reads the store.

        Raises `InvalidRequest` if they are too large for base64, before any is read.
        """
        assert view.result
        if kind is ResponseKind.BASE64:
            check_base64(view.result.images)
        images = [
            self._image(view.id, index, image, kind)
            for index, image in enumerate(view.result.images)
        ]
        return GenerationResponse(
            id=view.id, images=images, timings=view.result.timings, warnings=view.warnings
        )

    def _image(
        self, job_id: str, index: int, image: ImageResult, kind: ResponseKind
    ) -> ImageResponse:
        response = ImageResponse(
            index=index,
            seed=image.seed,
            width=image.width,
            height=image.height,
            format=image.format,
            bytes=image.bytes,
            finish_reason=image.finish_reason,
            **self._file(image.key, self.link(job_id, index, f".{image.format}"), kind),
        )
        if image.extras:
            response.extras = [self._extra(job_id, index, extra, kind) for extra in image.extras]
        return response

    def _extra(
        self, job_id: str, index: int, extra: ExtraFile, kind: ResponseKind
    ) -> ExtraResponse:
        link = self.link(job_id, index, f"/{extra.kind}.{extra.format}")
        return ExtraResponse(
            kind=extra.kind,
            format=extra.format,
            bytes=extra.bytes,
            **self._file(extra.key, link, kind),
        )

    def _file(self, key: str, link: str, kind: ResponseKind) -> dict[str, str]:
        match kind:
            case ResponseKind.BASE64:
                return {"base64": _base64(self.store.get(key))}
            case ResponseKind.URL:
                return {"url": self._presigned(key) or link}

    def _presigned(self, key: str) -> str | None:
        """Return a URL of the store itself, if it has one that clients can reach."""
        return self.store.presign(key, self.image_url_ttl_s) if self.image_url_ttl_s else None


def check_base64(images: Sequence[ImageResult]) -> None:
    """Raise `InvalidRequest` if the files of an answer's images are too large for base64."""
    sizes = [image.bytes for image in images]
    sizes += [extra.bytes for image in images for extra in image.extras]
    characters = sum(-(-size // 3) * 4 for size in sizes)
    if characters > MAX_BASE64:
        bound = (
            f"url: the files take {characters} characters of base64, and an answer has at most "
            f"{MAX_BASE64}; they are finished and can be fetched by the address of the job"
        )
        raise InvalidRequest("response", ResponseKind.BASE64.value, bound, "answer-too-large")


def json_response(
    content: BaseModel,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return `content` as JSON, without FastAPI's second validation of it."""
    body = content.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def previews_of(view: JobView) -> int:
    """Return how often a running job has made previews; 0 in other states."""
    return view.progress.previews if view.progress and view.state is JobState.RUNNING else 0


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def _progress(view: JobView, previews: Previews) -> ProgressResponse | None:
    """Return the progress of a job; None while the number of steps is unknown."""
    if view.progress is None or view.progress.steps == 0:
        return None
    fields = view.progress.model_dump(include={"step", "steps", "phase"})
    return ProgressResponse.model_validate(fields | previews)
