"""HTTP client of the Darkroom API, for the commands that use a running server."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from darkroom.responses import (
    EventAnswer,
    HealthAnswer,
    ImageAnswer,
    JobAnswer,
    ModelAnswer,
    ModelsAnswer,
    ProblemAnswer,
    ProgressAnswer,
    StreamProblem,
    SubmittedAnswer,
)
from protocol.queue.job import TERMINAL, FinishReason, JobState
from protocol.request.tasks import Task
from protocol.startup import InvalidSettings

TIMEOUT_S = 30.0
EVENT_TIMEOUT_S = 120.0  # between two events; the server sends keep-alive comments more often

API_KEY = "DARKROOM_API_KEY"
LONGEST_TEXT = 500  # characters of a server's answer that are shown

A = TypeVar("A", bound=BaseModel)


class ServerUnreachable(RuntimeError):
    """No server answers at the address."""


class Refused(RuntimeError):
    """The server rejected a request or failed to process it; the message is the server's."""


@dataclass(frozen=True)
class JobProgress:
    """State of a job: `step` of `steps` denoising steps, or `position` jobs ahead in the queue."""

    state: JobState
    step: int = 0
    steps: int = 0
    position: int | None = None


@dataclass(frozen=True)
class GeneratedImage:
    """The file of an image, its extra files by name ending ("depth.png"), and whether the model's
    safety checker flagged it."""

    content: bytes
    extras: Mapping[str, bytes]
    flagged: bool


@dataclass(frozen=True)
class GenerationResult:
    """The images of a job, and the warnings about its request."""

    images: list[GeneratedImage]
    warnings: list[str]


class Client:
    """Requests to one server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        """Open a client of the server at `url`. Proxy settings are ignored."""
        key = api_key()
        async with httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT_S,
            trust_env=False,
        ) as http:
            yield cls(http)

    async def is_reachable(self) -> bool:
        """Return True if a server answers."""
        try:
            self._read(HealthAnswer, await self._request("GET", "/healthz"))
        except (ServerUnreachable, Refused):
            return False
        return True

    async def models(self) -> tuple[ModelAnswer, ...]:
        """Return the models that the server offers."""
        return self._read(ModelsAnswer, await self._request("GET", "/v1/models")).models

    async def submit(self, task: Task, fields: Mapping[str, object]) -> str:
        """Submit a job; returns the path of the job."""
        response = await self._request(
            "POST", f"/v1/{task}", json=fields, headers={"Prefer": "respond-async"}
        )
        return f"/v1/jobs/{self._read(SubmittedAnswer, response).id}"

    async def follow(self, job: str) -> AsyncIterator[JobProgress]:
        """Yield each change of a job's progress, up to its terminal state.

        Raises:
            Refused: the job failed or was cancelled, or the stream ended; the message says why.
        """
        async with self._stream(f"{job}/events") as events:
            async for event in events:
                if isinstance(event, StreamProblem):
                    raise Refused(event.reason)
                yield _progress(event)
                if event.state in TERMINAL and event.state is not JobState.FINISHED:
                    raise Refused(event.reason)

    async def cancel(self, job: str) -> None:
        """Cancel a job."""
        await self._request("DELETE", job)

    async def result(self, job: str) -> GenerationResult:
        """Fetch the images of a finished job, and the warnings about its request."""
        answer = self._read(JobAnswer, await self._request("GET", job))
        if answer.result is None:
            raise Refused(answer.reason)
        images = [await self._image(job, image) for image in answer.result.images]
        return GenerationResult(images, [warning.detail for warning in answer.warnings])

    async def _image(self, job: str, image: ImageAnswer) -> GeneratedImage:
        path = f"{job}/images/{image.index}"
        extras = {
            f"{extra.kind}.{extra.format}": await self._file(f"{path}/{extra.kind}")
            for extra in image.extras or ()
        }
        flagged = image.finish_reason is FinishReason.CONTENT_FILTERED
        return GeneratedImage(await self._file(path), extras, flagged)

    async def _file(self, path: str) -> bytes:
        return (await self._request("GET", path)).content

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated_errors():
            response = await self._http.request(method, path, **options)
        if not response.is_success:
            raise Refused(_problem(response))
        return response

    def _read(self, kind: type[A], response: httpx.Response) -> A:
        return self._parse(kind, response.content)

    def _parse(self, kind: type[A], text: bytes | str) -> A:
        """Parse an answer. Raises Refused if no Darkroom can have sent it."""
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            message = f"{self._http.base_url} answers, but not as Darkroom does: is --url right?"
            raise Refused(message) from error

    @asynccontextmanager
    async def _stream(self, path: str) -> AsyncIterator[AsyncIterator[JobAnswer | StreamProblem]]:
        """Open a stream of server-sent events; each has one line of JSON data."""
        with self._translated_errors():
            async with self._http.stream("GET", path, timeout=EVENT_TIMEOUT_S) as response:
                if not response.is_success:
                    await response.aread()
                    raise Refused(_problem(response))
                lines = response.aiter_lines()
                yield (
                    self._parse(EventAnswer, line[6:]).root
                    async for line in lines
                    if line[:6] == "data: "
                )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            message = f"no Darkroom answers at {self._http.base_url} ({reason})"
            raise ServerUnreachable(message) from error


def api_key() -> str | None:
    """Return the key of `DARKROOM_API_KEY`. Raises InvalidSettings, without the key."""
    key = os.environ.get(API_KEY, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise InvalidSettings(
            f"{API_KEY} (its value is not shown) must be made of letters, digits and signs of "
            "ASCII, without spaces"
        )
    return key or None


def _progress(answer: JobAnswer) -> JobProgress:
    progress = answer.progress or ProgressAnswer()
    return JobProgress(answer.state, progress.step, progress.steps, answer.position)


def _problem(response: httpx.Response) -> str:
    """Return the message of a problem response (RFC 9457), or else the status."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        with suppress(ValidationError):
            problem = ProblemAnswer.model_validate_json(response.content)
            if text := problem.detail or problem.title:
                return text[:LONGEST_TEXT]
    return f"{response.request.url} answered {response.status_code}"
