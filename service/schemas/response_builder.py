"""Builds the responses of the generation and job routes from the records of the queue."""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import DarkroomError, QueueUnavailable
from protocol.queue.job import ExtraFile, ImageResult, JobState, JobView
from protocol.queue.progress import ProgressBoard
from protocol.storage.object_store import ObjectStore
from service.schemas.problems import problem_of
from service.schemas.requests import ResponseKind
from service.schemas.responses import (
    ExtraResponse,
    GenerationResponse,
    ImageResponse,
    JobResponse,
    ProgressResponse,
)

WARNINGS_HEADER = "Darkroom-Warnings"
FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # Pages of any site may show an image if they have its URL, which cannot be guessed.
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "private, max-age=3600, immutable",
}


@dataclass(frozen=True)
class ResponseBuilder:
    """Converts jobs to responses. `link` makes the URL of an image served by this service."""

    store: ObjectStore
    board: ProgressBoard
    image_url_ttl_s: int
    link: Callable[[str, int], str]

    async def job(self, view: JobView, seen: int = 0) -> JobResponse:
        """Return a job, with its latest preview if it has made more of them than `seen`.

        Blocking calls, for the preview and for a finished job, run in a thread.
        """
        preview = None
        if previews_of(view) > seen:
            preview = await run_in_threadpool(self._preview, view.id)
        if view.result is None:
            return self._job(view, preview)
        return await run_in_threadpool(self._job, view)

    def _preview(self, job_id: str) -> str | None:
        """Return a preview in base64; None during an outage, which must not end a stream."""
        with suppress(QueueUnavailable):
            if jpeg := self.board.preview(job_id):
                return base64.b64encode(jpeg).decode()
        return None

    def _job(self, view: JobView, preview: str | None = None) -> JobResponse:
        error = view.error and problem_of(DarkroomError.from_record(view.error))
        return JobResponse(
            id=view.id,
            state=view.state,
            position=view.position,
            eta_s=view.eta_s,
            progress=_progress(view, preview),
            result=self.images(view, ResponseKind.URL) if view.result else None,
            error=error,
            warnings=view.warnings,
        )

    def images(self, view: JobView, kind: ResponseKind) -> GenerationResponse:
        """Return the images of a finished job; for base64 it blocks while it reads the store."""
        assert view.result
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
            **self._file(image.key, self.link(job_id, index), kind),
        )
        if image.extras:
            response.extras = [self._extra(job_id, index, extra, kind) for extra in image.extras]
        return response

    def _extra(
        self, job_id: str, index: int, extra: ExtraFile, kind: ResponseKind
    ) -> ExtraResponse:
        link = f"{self.link(job_id, index)}/{extra.kind.value}"
        return ExtraResponse(
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
                return {"url": self._presigned(key) or link}

    def _presigned(self, key: str) -> str | None:
        """Return a URL of the store itself, if it has one that clients can reach."""
        return self.store.presign(key, self.image_url_ttl_s) if self.image_url_ttl_s else None


def json_response(
    content: GenerationResponse | JobResponse,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return `content` as JSON, without FastAPI's second validation of it."""
    body = content.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def file_response(job: JobView, content: bytes, content_type: str) -> Response:
    """Return a file of a finished job, with the warnings of its request in a header."""
    headers = FILE_HEADERS | ({WARNINGS_HEADER: warnings_header(job)} if job.warnings else {})
    return Response(content, 200, headers, media_type=content_type)


def warnings_header(view: JobView) -> str:
    """Return the warnings as a list of structured fields (RFC 9651): codes with parameters."""
    return ", ".join(
        f"{warning.code};field={_quoted(warning.field)};detail={_quoted(warning.detail)}"
        for warning in view.warnings
    )


def _quoted(text: str) -> str:
    """Return a string of a structured field, which is printable ASCII."""
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def previews_of(view: JobView) -> int:
    """Return the number of previews that a running job has made; 0 in other states."""
    return view.progress.previews if view.progress and view.state is JobState.RUNNING else 0


def _progress(view: JobView, preview: str | None) -> ProgressResponse | None:
    """Return the progress of a job; None while the number of steps is unknown."""
    if view.progress is None or view.progress.steps == 0:
        return None
    fields = view.progress.model_dump(include={"step", "steps", "phase"})
    return ProgressResponse.model_validate(fields | {"preview": preview})
