"""A small client of Darkroom's own HTTP API, for the commands that use a running server."""

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
SILENCE_S = 120.0  # longest silence between two events; the server sends signs of life in between


class ServerUnreachable(RuntimeError):
    """Nothing answers at the address."""


class Refused(RuntimeError):
    """The server refused a request, or failed at it; the message is the server's own."""


@dataclass(frozen=True)
class Step:
    """How far a job is: `step` of `steps` denoising steps, or `position` jobs ahead of it."""

    state: JobState
    step: int = 0
    steps: int = 0
    position: int | None = None


@dataclass(frozen=True)
class Picture:
    """A picture's file, the files that come with it by what their names end in ("depth.png"), and
    whether the model's safety checker has flagged it."""

    content: bytes
    extras: Mapping[str, bytes]
    flagged: bool


class Client:
    """Requests to one server, in the words of its API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        """A client of the server at `url`; no proxy is asked, the server is ours."""
        key = os.environ.get("DARKROOM_API_KEY")
        async with httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT_S,
            trust_env=False,
        ) as http:
            yield cls(http)

    async def answers(self) -> bool:
        """Whether a server is there at all."""
        try:
            await self._ask("GET", "/healthz")
        except (ServerUnreachable, Refused):
            return False
        return True

    async def models(self) -> list[dict[str, Any]]:
        """What the server serves."""
        models: list[dict[str, Any]] = (await self._ask("GET", "/v1/models")).json()["models"]
        return models

    async def submit(self, task: Task, fields: Mapping[str, object]) -> str:
        """Ask for pictures; returns the path of the job."""
        answer = await self._ask(
            "POST", f"/v1/{task}", json=fields, headers={"Prefer": "respond-async"}
        )
        return f"/v1/jobs/{answer.json()['id']}"

    async def follow(self, job: str) -> AsyncIterator[Step]:
        """Each new stand of a job, up to the one it ends in, as the server tells of it.

        Raises:
            Refused: the job failed or was cancelled; the message says why.
        """
        async with self._stream(f"{job}/events") as events:
            async for view in events:
                step = _step(view)
                yield step
                if step.state in TERMINAL and step.state is not JobState.FINISHED:
                    raise Refused(_reason(view))

    async def cancel(self, job: str) -> None:
        """Give a job up."""
        await self._ask("DELETE", job)

    async def pictures(self, job: str) -> list[Picture]:
        """What came of a finished job."""
        view = (await self._ask("GET", job)).json()
        return [await self._picture(job, told) for told in view["result"]["images"]]

    async def _picture(self, job: str, told: Mapping[str, Any]) -> Picture:
        path = f"{job}/images/{told['index']}"
        extras = {
            f"{extra['kind']}.{extra['format']}": await self._file(f"{path}/{extra['kind']}")
            for extra in told.get("extras") or ()
        }
        flagged = told["finish_reason"] == FinishReason.CONTENT_FILTERED
        return Picture(await self._file(path), extras, flagged)

    async def _file(self, path: str) -> bytes:
        return (await self._ask("GET", path)).content

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._in_our_words():
            answer = await self._http.request(method, path, **options)
        if answer.is_error:
            raise Refused(_problem(answer))
        return answer

    @asynccontextmanager
    async def _stream(self, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The data of server-sent events, which are JSON on one line each."""
        with self._in_our_words():
            async with self._http.stream("GET", path, timeout=SILENCE_S) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise Refused(_problem(answer))
                lines = answer.aiter_lines()
                yield (json.loads(line[6:]) async for line in lines if line.startswith("data: "))

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            message = f"no Darkroom answers at {self._http.base_url} ({error})"
            raise ServerUnreachable(message) from error


def _step(view: Mapping[str, Any]) -> Step:
    progress = view.get("progress") or {}
    return Step(
        state=JobState(view["state"]),
        step=progress.get("step", 0),
        steps=progress.get("steps", 0),
        position=view.get("position"),
    )


def _reason(view: Mapping[str, Any]) -> str:
    error = view.get("error") or {}
    return error.get("detail") or error.get("message") or f"the job was {view['state']}"


def _problem(answer: httpx.Response) -> str:
    """The server's own words, if it answered with a problem (RFC 9457)."""
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        problem = answer.json()
        return str(problem.get("detail") or problem.get("title"))
    return f"{answer.request.url} answered {answer.status_code}"
