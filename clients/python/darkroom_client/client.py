"""The client that waits for each answer: `AsyncClient` without an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import fields as fields_of
from typing import Any, Self, TypeVar, Unpack

import httpx

from darkroom_client.async_client import AsyncClient
from darkroom_client.fields import Box, Fields, ImageInput, Task, TaskFields
from darkroom_client.jobs import AsyncBatch, AsyncJob, OnProgress
from darkroom_client.records import (
    AsyncGeneratedImage,
    AsyncResult,
    BatchStatus,
    GeneratedImage,
    JobState,
    JobStatus,
    Model,
    Recipe,
    Result,
    Samplers,
)
from darkroom_client.retries import RETRIES
from darkroom_client.transports import BlockingTransport, run

T = TypeVar("T")


class Job:
    """A job of a server, as of `Client.submit` or `Client.job`."""

    def __init__(self, job: AsyncJob) -> None:
        self._job = job

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        return self._job.id

    def status(self) -> JobStatus:
        """Return the state of the job."""
        return run(self._job.status())

    def cancel(self) -> JobStatus:
        """Cancel the job: a running one stops after its step, an ended one is not changed."""
        return run(self._job.cancel())

    def delete(self) -> None:
        """Delete the job in any state, with its prompt and its images."""
        run(self._job.delete())

    def retry(self, *, idempotency_key: str | None = None) -> Job:
        """Submit a failed or cancelled job again, with the same seed; return the new job."""
        return Job(run(self._job.retry(idempotency_key=idempotency_key)))

    def wait(self, on_progress: OnProgress | None = None) -> Result:
        """Wait until the job has finished and return its images.

        `on_progress` is called with each change. Raises JobFailed, JobCancelled and others.
        """
        return _result(self._job.wait(on_progress))

    def result(self) -> Result:
        """Return the images of a job that has finished."""
        return _result(self._job.result())

    def events(self) -> Generator[JobStatus]:
        """Yield the state of the job at each change, up to the last.

        Examples:
            >>> job = client.submit("txt2img", prompt="red heart", steps=4)
            >>> states = [status.state for status in job.events()]
            >>> print(states[-1])
            finished
        """
        return _items(self._job.events())


class Batch:
    """The jobs of a list of prompts, as of `Client.batch`."""

    def __init__(self, batch: AsyncBatch) -> None:
        self._batch = batch

    @property
    def id(self) -> str:
        return self._batch.id

    @property
    def count(self) -> int:
        return self._batch.count

    def status(self) -> BatchStatus:
        """Return how many jobs are in each state."""
        return run(self._batch.status())

    def jobs(self) -> Generator[Job]:
        """Yield the jobs in the order of the prompts."""
        for job in _items(self._batch.jobs()):
            yield Job(job)

    def wait(self, on_progress: Callable[[int, int], object] | None = None) -> list[Result]:
        """Wait for all jobs and return their images in the order of the prompts.

        `on_progress` is called with the number of jobs that have finished, and of all. Raises the
        error of the first job without images.
        """
        return [_blocking(result) for result in run(self._batch.wait(on_progress))]

    def cancel(self) -> BatchStatus:
        """Cancel the jobs that have not ended."""
        return run(self._batch.cancel())


class Client:
    """A client of one server.

    Examples:
        >>> with Client(url) as client:
        ...     result = client.generate("red heart", steps=4, seed=7, n=2)
        >>> [image.seed for image in result.images]
        [7, 8]
        >>> result.image.save("heart.png")

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
        http: httpx.Client | None = None,
    ) -> None:
        transport = BlockingTransport(http or httpx.Client())
        self._client = AsyncClient.over(transport, url, key, retries)

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        run(self._client.close())

    def generate(
        self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Unpack[Fields]
    ) -> Result:
        """Generate images from a prompt.

        Examples:
            >>> steps = []
            >>> result = client.generate(
            ...     "red heart", steps=4, on_progress=lambda status: steps.append(status.step)
            ... )
            >>> result.image.format, result.image.content[:4]
            ('png', b'\\x89PNG')

        Args:
            prompt: the text to generate images of.
            on_progress: called with a `JobStatus` at each change.
            fields: the fields of the API, such as `steps`, `seed` or `width`.

        Raises:
            InvalidRequest: a field is out of bounds.
            ServerUnreachable: no server answers.
            DarkroomError: the base of these and all other errors.
        """
        return _result(self._client.generate(prompt, on_progress=on_progress, **fields))

    def img2img(
        self,
        prompt: str,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Generate images from an image and a prompt.

        Examples:
            >>> heart = client.generate("red heart", steps=4).image
            >>> blue = client.img2img("blue heart", heart, strength=0.6, steps=4).image
            >>> (blue.width, blue.height) == (heart.width, heart.height)
            True
        """
        return _result(self._client.img2img(prompt, image, on_progress=on_progress, **fields))

    def inpaint(
        self,
        prompt: str,
        image: ImageInput,
        mask: ImageInput | None = None,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Generate the white part of the mask again; without one, see `mask_source`."""
        return _result(self._client.inpaint(prompt, image, mask, on_progress=on_progress, **fields))

    def outpaint(
        self,
        prompt: str,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Continue an image over its edges, by `left` and so on or up to `width` and `height`."""
        return _result(self._client.outpaint(prompt, image, on_progress=on_progress, **fields))

    def upscale(
        self,
        image: ImageInput,
        *,
        prompt: str | None = None,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Upscale an image: with `upscaler` by any `scale`, else by a latent diffusion model.

        Examples:
            >>> heart = client.generate("red heart", steps=4).image
            >>> client.upscale(heart, upscaler="lanczos", scale=2).image.width == 2 * heart.width
            True
        """
        return _result(
            self._client.upscale(image, prompt=prompt, on_progress=on_progress, **fields)
        )

    def unconditional(
        self, *, on_progress: OnProgress | None = None, **fields: Unpack[Fields]
    ) -> Result:
        """Generate images like those that the model was trained on."""
        return _result(self._client.unconditional(on_progress=on_progress, **fields))

    def class_to_image(
        self,
        class_id: int | str,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Generate images of a class, which has a number and maybe a name."""
        return _result(self._client.class_to_image(class_id, on_progress=on_progress, **fields))

    def layout_to_image(
        self,
        boxes: Sequence[Box],
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Generate images with objects in boxes, whose sides are shares of those of the image."""
        return _result(self._client.layout_to_image(boxes, on_progress=on_progress, **fields))

    def semantic_to_image(
        self,
        image: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **fields: Unpack[Fields],
    ) -> Result:
        """Generate images from a class map: a PNG whose pixel values are class numbers."""
        return _result(self._client.semantic_to_image(image, on_progress=on_progress, **fields))

    def run(
        self, task: Task, *, on_progress: OnProgress | None = None, **fields: Unpack[TaskFields]
    ) -> Result:
        """Run a task and return its images. If the caller is interrupted, the job is cancelled."""
        return _result(self._client.run(task, on_progress=on_progress, **fields))

    def submit(
        self, task: Task, *, idempotency_key: str | None = None, **fields: Unpack[TaskFields]
    ) -> Job:
        """Queue a job and return it at once. The same key gives the same job, for a day.

        Examples:
            >>> job = client.submit("txt2img", prompt="red heart", steps=4)
            >>> len(job.wait().images)
            1
        """
        return Job(run(self._client.submit(task, idempotency_key=idempotency_key, **fields)))

    def batch(
        self,
        prompts: Sequence[str],
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> Batch:
        """Queue a job for each of up to 1,000 prompts, all of them or none.

        Examples:
            >>> batch = client.batch(["red heart", "green heart"], steps=4)
            >>> len(batch.wait())
            2
        """
        return Batch(run(self._client.batch(prompts, idempotency_key=idempotency_key, **fields)))

    def job(self, id: str) -> Job:
        """Return the job of this id, without asking the server."""
        return Job(self._client.job(id))

    def jobs(
        self,
        *,
        state: JobState | Sequence[JobState] = (),
        model: str | None = None,
        task: Task | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
    ) -> Generator[JobStatus]:
        """Yield the jobs of the API key, the newest first. Times have a time zone."""
        return _items(
            self._client.jobs(
                state=state,
                model=model,
                task=task,
                created_after=created_after,
                created_before=created_before,
            )
        )

    def read_recipe(self, image: ImageInput) -> Recipe:
        """Return the recipe in an image file: the request that generates it again.

        Examples:
            >>> heart = client.generate("red heart", steps=4)
            >>> recipe = client.read_recipe(heart.image.content)
            >>> recipe.task, recipe.request["prompt"], recipe.request["steps"]
            ('txt2img', 'red heart', 4)
            >>> client.run(recipe.task, **recipe.request).image.content == heart.image.content
            True
        """
        return run(self._client.read_recipe(image))

    def models(self) -> tuple[Model, ...]:
        """Return the models, the default first.

        Examples:
            >>> client.models()[0].ready
            True
        """
        return run(self._client.models())

    def samplers(self) -> Samplers:
        """Return the samplers and schedules."""
        return run(self._client.samplers())

    def load_model(self, name: str) -> Model:
        """Load a model into memory; for keys of admins."""
        return run(self._client.load_model(name))

    def unload_model(self, name: str) -> Model:
        """Unload a model from memory; for keys of admins."""
        return run(self._client.unload_model(name))

    def is_reachable(self) -> bool:
        """Return True if a Darkroom answers at the address. It is asked once."""
        return run(self._client.is_reachable())

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to any route, such as "/v1/models/installs", and return its answer."""
        return run(self._client.request(method, path, json=json, params=params, headers=headers))


def _result(coroutine: Coroutine[Any, Any, AsyncResult]) -> Result:
    return _blocking(run(coroutine))


def _blocking(result: AsyncResult) -> Result:
    """Return the same images, whose recipes are read without `await`."""
    images = tuple(_blocking_image(image) for image in result.images)
    return Result(result.id, images, result.timings, result.warnings)


def _blocking_image(image: AsyncGeneratedImage) -> GeneratedImage:
    values = {each.name: getattr(image, each.name) for each in fields_of(image)}
    return GeneratedImage(**{**values, "read": lambda content: run(image.read(content))})


def _items(items: AsyncGenerator[T]) -> Generator[T]:
    """Yield the items of an asynchronous generator of a blocking transport."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())
