"""Jobs and batches of a server, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial

from darkroom_client.answers import read_batch, read_id, read_job, read_jobs, read_recipe
from darkroom_client.connection import IDEMPOTENCY_KEY, Connection
from darkroom_client.errors import DarkroomError, ProblemError, ServerUnreachable
from darkroom_client.fields import ImageInput
from darkroom_client.inputs import encoded
from darkroom_client.records import AsyncResult, BatchStatus, JobStatus, Recipe
from darkroom_client.results import Listing, read_listing, reason_of
from darkroom_client.retries import new_key, wait_before_retry

OnProgress = Callable[[JobStatus], object]
PAGE = 100  # jobs
PROBLEM = "problem"  # the name of the event with which the server ends a stream


class AsyncJob:
    """A job of a server, as of `AsyncClient.submit` or `AsyncClient.job`."""

    def __init__(self, connection: Connection, id: str) -> None:
        self._connection = connection
        self.id = id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{self.id}"

    async def status(self) -> JobStatus:
        """Return the state of the job."""
        return await self._connection.read(read_job, "GET", self._path)

    async def cancel(self) -> JobStatus:
        """Cancel the job: a running one stops after its step, an ended one is not changed."""
        return await self._connection.read(read_job, "DELETE", self._path)

    async def delete(self) -> None:
        """Delete the job in any state, with its prompt and its images."""
        await self._connection.request("DELETE", self._path, params={"purge": "true"})

    async def retry(self, *, idempotency_key: str | None = None) -> AsyncJob:
        """Submit a failed or cancelled job again, with the same seed; return the new job."""
        headers = {IDEMPOTENCY_KEY: idempotency_key or new_key()}
        path = f"{self._path}/retry"
        return AsyncJob(
            self._connection, await self._connection.read(read_id, "POST", path, headers=headers)
        )

    async def wait(self, on_progress: OnProgress | None = None) -> AsyncResult:
        """Wait until the job has finished and return its images.

        `on_progress` is called with each change. Raises JobFailed, JobCancelled and others.
        """
        async with aclosing(self.events()) as events:
            async for status in events:
                if on_progress is not None:
                    on_progress(status)
        return await self.result()

    async def result(self) -> AsyncResult:
        """Return the images of a job that has finished.

        Raises the reason for which there are none, such as JobFailed or JobCancelled.
        """
        listing = await self._connection.read(read_listing, "GET", self._path)
        if not isinstance(listing, Listing):
            raise reason_of(listing)
        contents = [
            (await self._connection.request("GET", path)).content for path in listing.paths()
        ]
        return listing.result(contents, partial(recipe_in, self._connection))

    async def events(self) -> AsyncGenerator[JobStatus]:
        """Yield the state of the job at each change, up to the last.

        A lost connection is opened again, from the last event that was seen.
        """
        last_id, failures = "", 0
        while True:
            resumed_at = last_id
            try:
                async with self._connection.events(f"{self._path}/events", last_id) as events:
                    if events is None:
                        return
                    async for event in events:
                        if event.name == PROBLEM:
                            raise self._connection.problem_of(event)
                        status = self._connection.parse(read_job, event.data)
                        yield status
                        last_id = event.id or last_id
                        if status.state.has_ended:
                            return
                raise ServerUnreachable(f"the events of job {self.id} have ended early")
            except (ServerUnreachable, ProblemError) as error:
                failures = 0 if last_id != resumed_at else failures
                wait_s = wait_before_retry(error, failures)
                if wait_s is None or failures >= self._connection.retries:
                    raise
            failures += 1
            await self._connection.transport.sleep(wait_s)


class AsyncBatch:
    """The jobs of a list of prompts, as of `AsyncClient.batch`."""

    def __init__(self, connection: Connection, id: str, count: int) -> None:
        self._connection = connection
        self.id = id
        self.count = count

    async def status(self) -> BatchStatus:
        """Return how many jobs are in each state."""
        return await self._connection.read(read_batch, "GET", f"/v1/batches/{self.id}")

    async def jobs(self) -> AsyncGenerator[AsyncJob]:
        """Yield the jobs in the order of the prompts, without those whose records have expired."""
        cursor: str | None = None
        while True:
            params = {"limit": PAGE} | ({} if cursor is None else {"cursor": cursor})
            page, cursor = await self._connection.read(
                read_jobs, "GET", f"/v1/batches/{self.id}", params=params
            )
            for status in page:
                yield AsyncJob(self._connection, status.id)
            if cursor is None:
                return

    async def wait(
        self, on_progress: Callable[[int, int], object] | None = None
    ) -> list[AsyncResult]:
        """Wait for all jobs and return their images in the order of the prompts.

        `on_progress` is called with the number of jobs that have finished, and of all. Raises the
        error of the first job without images.
        """
        results: list[AsyncResult] = []
        async with aclosing(self.jobs()) as jobs:
            async for job in jobs:
                results.append(await job.wait())
                if on_progress is not None:
                    on_progress(len(results), self.count)
        return results

    async def cancel(self) -> BatchStatus:
        """Cancel the jobs that have not ended."""
        return await self._connection.read(read_batch, "DELETE", f"/v1/batches/{self.id}")


async def cancel_quietly(job: AsyncJob) -> None:
    """Cancel a job whose caller is being interrupted; if that fails, the job goes on."""
    with suppress(DarkroomError):
        await job.cancel()


async def recipe_in(connection: Connection, image: ImageInput) -> Recipe:
    """Return the recipe in an image file, which the server reads."""
    body = encoded({"image": image})
    return await connection.read(read_recipe, "POST", "/v1/read", json=body)
