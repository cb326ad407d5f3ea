"""MicroBatcher: batches, errors and cancellation."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from protocol.errors import DarkroomError, QueueUnavailable, UnknownJob
from service.jobs.micro_batcher import MicroBatcher


class Squares:
    """Returns squares; fails for numbers above 100. It blocks while `released` is not set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.released = threading.Event()
        self.released.set()
        self.unreachable = False

    def __call__(self, numbers: Sequence[int]) -> list[int | DarkroomError]:
        self.batches.append(list(numbers))
        self.released.wait()
        if self.unreachable:
            raise QueueUnavailable
        return [UnknownJob(str(n)) if n > 100 else n * n for n in numbers]


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def query(squares: Squares) -> Iterator[MicroBatcher[int, int]]:
    batcher = MicroBatcher(squares, "squares")
    yield batcher
    squares.released.set()
    batcher.close()


async def until_batches(squares: Squares, count: int) -> None:
    while len(squares.batches) < count:
        await asyncio.sleep(0)


async def test_queries_during_a_batch_form_the_next_batch(
    squares: Squares, query: MicroBatcher[int, int]
) -> None:
    squares.released.clear()
    results = [asyncio.create_task(query(n)) for n in range(5)]
    await until_batches(squares, 1)
    squares.released.set()
    assert await asyncio.gather(*results) == [0, 1, 4, 9, 16]
    assert squares.batches == [[0], [1, 2, 3, 4]]


async def test_each_query_gets_its_own_error(
    squares: Squares, query: MicroBatcher[int, int]
) -> None:
    results = await asyncio.gather(query(1), query(101), query(2), return_exceptions=True)
    assert [results[0], results[2]] == [1, 4]
    assert isinstance(results[1], UnknownJob)


async def test_batch_error_reaches_every_query_and_passes(
    squares: Squares, query: MicroBatcher[int, int]
) -> None:
    squares.unreachable = True
    results = await asyncio.gather(*map(query, range(3)), return_exceptions=True)
    assert all(isinstance(result, QueueUnavailable) for result in results)
    squares.unreachable = False
    assert await query(3) == 9


async def test_cancelled_query_does_not_affect_others(
    squares: Squares, query: MicroBatcher[int, int]
) -> None:
    squares.released.clear()
    stays, leaves = asyncio.create_task(query(1)), asyncio.create_task(query(2))
    await until_batches(squares, 1)
    leaves.cancel()
    squares.released.set()
    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert await query(3) == 9
