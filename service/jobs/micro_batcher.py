"""Batches queries of many requests into one Redis round trip."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from protocol.errors import DarkroomError

Q = TypeVar("Q")  # query
R = TypeVar("R")  # result

# Blocks; returns one result or error for each query, in their order.
RunBatch = Callable[[Sequence[Q]], Sequence[R | DarkroomError]]


class MicroBatcher(Generic[Q, R]):
    """Runs queries in one thread; those that arrive during a batch form the next batch.

    A single query therefore starts at once, and under load many queries share one round trip and
    one thread switch. Must be used from one event loop.
    """

    def __init__(self, run_batch: RunBatch[Q, R], name: str) -> None:
        self._run_batch = run_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._running = False

    async def __call__(self, query: Q) -> R:
        """Return the result of `query`. Raises its error, or the error of the whole batch."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, result))
        if not self._running:
            self._start_batch()
        return await result

    def close(self) -> None:
        """Stop the thread after the current batch."""
        self._thread.shutdown(wait=False)

    def _start_batch(self) -> None:
        batch, self._waiting = self._waiting, []
        self._running = True
        results = asyncio.get_running_loop().run_in_executor(
            self._thread, self._run_batch, [query for query, _ in batch]
        )
        results.add_done_callback(lambda results: self._finish_batch(batch, results))

    def _finish_batch(
        self,
        batch: list[tuple[Q, asyncio.Future[R]]],
        results: asyncio.Future[Sequence[R | DarkroomError]],
    ) -> None:
        self._running = False
        if self._waiting:
            self._start_batch()
        error = results.exception()
        outcomes = [error] * len(batch) if error else results.result()
        for (_, waiter), outcome in zip(batch, outcomes, strict=True):
            if waiter.done():  # the caller was cancelled
                continue
            if isinstance(outcome, BaseException):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)
