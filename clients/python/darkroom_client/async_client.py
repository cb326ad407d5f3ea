"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self, Unpack
from urllib.parse import quote

import httpx

from darkroom_client.answers import (
    read_batch,
    read_health,
    read_id,
    read_jobs,
    read_model,
    read_models,
    read_samplers,
)
from darkroom_client.connection import IDEMPOTENCY_KEY, SUBMIT_TIMEOUT_S, Connection
from darkroom_client.errors import DarkroomError, ProblemError, ServerUnreachable, UnexpectedAnswer
from darkroom_client.fields import Box, Fields, ImageInput, Task, TaskFields
from darkroom_client.inputs import encoded
from darkroom_client.jobs import PAGE, AsyncBatch, AsyncJob, OnProgress, cancel_quietly, recipe_in
from darkroom_client.records import AsyncResult, JobState, JobStatus, Model, Recipe, Samplers
from darkroom_client.retries import RETRIES, new_key
from darkroom_client.transports import AsyncTransport, Transport


class AsyncClient:
    """A client of one server, for asyncio. `Client` has the same methods, without `await`.

    Examples:
        >>> async def main() -> None:
        ...     async with AsyncClient(url) as client:
        ...         result = await client.generate("red heart", steps=4, seed=7)
        ...         print(result.image.seed, result.image.format)
        >>> asyncio.run(main())
        7 png

    Args:
        url: the address of the server, with its path if it has one; default: this machine, port
            8000.
        key: the API key; default: the value of `DARKROOM_API_KEY`.
        retries: further tries after errors that may pass.
        http: sends the requests, in place of a new client of httpx; it is closed with this one.

    Raises:
        ValueError: the address is none, or the key has characters that no header can hold.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        retries: int = RETRIES,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._connect(AsyncTransport(http or httpx.AsyncClient()), url, key, retries)

    def _connect(
        self, transport: Transport, url: str | None, key: str | None, retries: int
    ) -> None:
        self._connection = Connection(transport, url, key, retries)

    @classmethod
    def over(cls, transport: Transport, url: str | None, key: str | None, retries: int) -> Self:
        """Return a client that sends by another transport."""
        client = cls.__new__(cls)
        client._connect(transport, url, key, retries)
        return client

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.transport.close()

    async def generate(
        self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Unpack[Fields]
    ) -> AsyncResult:
        """Generate images from a prompt."""
        return await self.run("txt2img", on_progress=on_progress, prompt=prompt, **fields)

    async def img2img(
        self,
        prompt: str,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Generate images from an image and a prompt."""
        return await self.run(
            "img2img", on_progress=on_progress, prompt=prompt, image=image, **fields
        )

    async def inpaint(
        self,
        prompt: str,
        image: ImageInput,
        mask: ImageInput | None = None,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Generate the white part of the mask again; without one, see `mask_source`."""
        return await self.run(
            "inpaint", on_progress=on_progress, prompt=prompt, image=image, mask=mask, **fields
        )

    async def outpaint(
        self,
        prompt: str,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Continue an image over its edges, by `left` and so on or up to `width` and `height`."""
        return await self.run(
            "outpaint", on_progress=on_progress, prompt=prompt, image=image, **fields
        )

    async def upscale(
        self,
        image: ImageInput,
        *,
        prompt: str | None = None,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Upscale an image: with `upscaler` by any `scale`, else by a latent diffusion model."""
        return await self.run(
            "upscale", on_progress=on_progress, image=image, prompt=prompt, **fields
        )

    async def unconditional(
        self, *, on_progress: OnProgress | None = None, **fields: Unpack[Fields]
    ) -> AsyncResult:
        """Generate images like those that the model was trained on."""
        return await self.run("unconditional", on_progress=on_progress, **fields)

    async def class_to_image(
        self,
        class_id: int | str,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Generate images of a class, which has a number and maybe a name."""
        return await self.run("class", on_progress=on_progress, class_id=class_id, **fields)

    async def layout_to_image(
        self,
        boxes: Sequence[Box],
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Generate images with objects in boxes, whose sides are shares of those of the image."""
        return await self.run("layout", on_progress=on_progress, boxes=boxes, **fields)

    async def semantic_to_image(
        self,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncResult:
        """Generate images from a class map: a PNG whose pixel values are class numbers."""
        return await self.run("semantic", on_progress=on_progress, image=image, **fields)

    async def run(
        self, task: Task, *, on_progress: OnProgress | None = None, **fields: Unpack[TaskFields]
    ) -> AsyncResult:
        """Run a task and return its images. If the caller is interrupted, the job is cancelled."""
        submission = self.submit(task, **fields)
        job = await self._connection.transport.uninterrupted(submission, cancel_quietly)
        try:
            return await job.wait(on_progress)
        except DarkroomError:
            raise
        except BaseException:
            await cancel_quietly(job)
            raise

    async def submit(
        self, task: Task, *, idempotency_key: str | None = None, **fields: Unpack[TaskFields]
    ) -> AsyncJob:
        """Queue a job and return it at once. The same key gives the same job, for a day."""
        headers = {IDEMPOTENCY_KEY: idempotency_key or new_key(), "Prefer": "respond-async"}
        job_id = await self._connection.read(
            read_id,
            "POST",
            f"/v1/{task}",
            json=encoded(fields),
            headers=headers,
            timeout_s=SUBMIT_TIMEOUT_S,
        )
        return self.job(job_id)

    async def batch(
        self,
        prompts: Sequence[str],
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> AsyncBatch:
        """Queue a job for each of up to 1,000 prompts, all of them or none."""
        status = await self._connection.read(
            read_batch,
            "POST",
            "/v1/batches",
            json=encoded({"prompts": list(prompts), **fields}),
            headers={IDEMPOTENCY_KEY: idempotency_key or new_key()},
            timeout_s=SUBMIT_TIMEOUT_S,
        )
        return AsyncBatch(self._connection, status.id, status.count)

    def job(self, id: str) -> AsyncJob:
        """Return the job of this id, without asking the server."""
        return AsyncJob(self._connection, id)

    async def jobs(
        self,
        *,
        state: JobState | Sequence[JobState] = (),
        model: str | None = None,
        task: Task | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
    ) -> AsyncGenerator[JobStatus]:
        """Yield the jobs of the API key, the newest first. Times have a time zone."""
        given = {
            "state": [state] if isinstance(state, str) else list(state),
            "model": model,
            "task": task,
            "created_after": created_after,
            "created_before": created_before,
            "limit": PAGE,
        }
        params: dict[str, Any] = {name: value for name, value in given.items() if value}
        while True:
            page, cursor = await self._connection.read(read_jobs, "GET", "/v1/jobs", params=params)
            for status in page:
                yield status
            if cursor is None:
                return
            params["cursor"] = cursor

    async def read_recipe(self, image: ImageInput) -> Recipe:
        """Return the recipe in an image file: the request that generates it again."""
        return await recipe_in(self._connection, image)

    async def models(self) -> tuple[Model, ...]:
        """Return the models, the default first."""
        return await self._connection.read(read_models, "GET", "/v1/models")

    async def samplers(self) -> Samplers:
        """Return the samplers and schedules."""
        return await self._connection.read(read_samplers, "GET", "/v1/samplers")

    async def load_model(self, name: str) -> Model:
        """Load a model into memory; for keys of admins."""
        return await self._connection.read(read_model, "POST", f"{_path(name)}/load")

    async def unload_model(self, name: str) -> Model:
        """Unload a model from memory; for keys of admins."""
        return await self._connection.read(read_model, "POST", f"{_path(name)}/unload")

    async def is_reachable(self) -> bool:
        """Return True if a Darkroom answers at the address. It is asked once."""
        try:
            return await self._connection.read(read_health, "GET", "/healthz", retries=0)
        except (ServerUnreachable, UnexpectedAnswer, ProblemError):
            return False

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to any route, such as "/v1/models/installs", and return its answer."""
        return await self._connection.request(
            method, path, json=json, params=params, headers=headers
        )


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"
