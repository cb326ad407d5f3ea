"""HTTP client of the Darkroom API, for the commands that use a running server."""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

from protocol.queue.job import TERMINAL, FinishReason, JobState
from protocol.request.tasks import Task

TIMEOUT_S = 30.0
EVENT_TIMEOUT_S = 120.0  # between two events; the server sends keep-alive comments more often


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
        key = os.environ.get("DARKROOM_API_KEY")
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
            await self._request("GET", "/healthz")
        except (ServerUnreachable, Refused):
            return False
        return True

    async def models(self) -> list[dict[str, Any]]:
        """Return the models that the server offers."""
        models: list[dict[str, Any]] = (await self._request("GET", "/v1/models")).json()["models"]
        return models

    async def submit(self, task: Task, fields: Mapping[str, object]) -> str:
        """Submit a job; returns the path of the job."""
        response = await self._request(
            "POST", f"/v1/{task}", json=fields, headers={"Prefer": "respond-async"}
        )
        return f"/v1/jobs/{response.json()['id']}"

    async def follow(self, job: str) -> AsyncIterator[JobProgress]:
        """Yield each change of a job's progress, up to its terminal state.

        Raises:
            Refused: the job failed or was cancelled; the message has the reason.
        """
        async with self._stream(f"{job}/events") as events:
            async for view in events:
                progress = _progress(view)
                yield progress
                if progress.state in TERMINAL and progress.state is not JobState.FINISHED:
                    raise Refused(_reason(view))

    async def cancel(self, job: str) -> None:
        """Cancel a job."""
        await self._request("DELETE", job)

    async def result(self, job: str) -> GenerationResult:
        """Fetch the images of a finished job, and the warnings about its request."""
        view = (await self._request("GET", job)).json()
        images = [await self._image(job, entry) for entry in view["result"]["images"]]
        return GenerationResult(images, [warning["detail"] for warning in view.get("warnings", ())])

    async def _image(self, job: str, entry: Mapping[str, Any]) -> GeneratedImage:
        path = f"{job}/images/{entry['index']}"
        extras = {
            f"{extra['kind']}.{extra['format']}": await self._file(f"{path}/{extra['kind']}")
            for extra in entry.get("extras") or ()
        }
        flagged = entry["finish_reason"] == FinishReason.CONTENT_FILTERED
        return GeneratedImage(await self._file(path), extras, flagged)

    async def _file(self, path: str) -> bytes:
        return (await self._request("GET", path)).content

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated_errors():
            response = await self._http.request(method, path, **options)
        if response.is_error:
            raise Refused(_problem(response))
        return response

    @asynccontextmanager
    async def _stream(self, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a stream of server-sent events; each has one line of JSON data."""
        with self._translated_errors():
            async with self._http.stream("GET", path, timeout=EVENT_TIMEOUT_S) as response:
                if response.is_error:
                    await response.aread()
                    raise Refused(_problem(response))
                lines = response.aiter_lines()
                yield (json.loads(line[6:]) async for line in lines if line.startswith("data: "))

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            message = f"no Darkroom answers at {self._http.base_url} ({error})"
            raise ServerUnreachable(message) from error


def _progress(view: Mapping[str, Any]) -> JobProgress:
    progress = view.get("progress") or {}
    return JobProgress(
        state=JobState(view["state"]),
        step=progress.get("step", 0),
        steps=progress.get("steps", 0),
        position=view.get("position"),
    )


def _reason(view: Mapping[str, Any]) -> str:
    error = view.get("error") or {}
    return error.get("detail") or error.get("message") or f"the job was {view['state']}"


def _problem(response: httpx.Response) -> str:
    """Return the message of a problem response (RFC 9457), or else the status."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        return str(problem.get("detail") or problem.get("title"))
    return f"{response.request.url} answered {response.status_code}"
