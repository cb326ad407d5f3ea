"""Questions that go out together."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from protocol.errors import DarkroomError, QueueUnavailable, UnknownJob
from service.jobs.micro_batcher import MicroBatcher


class Sage:
    """Answers the square of a number; none above a hundred. Keeps everybody waiting if held."""

    def __init__(self) -> None:
        self.turns: list[list[int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.away = False

    def __call__(self, numbers: Sequence[int]) -> list[int | DarkroomError]:
        self.turns.append(list(numbers))
        self.may_answer.wait()
        if self.away:
            raise QueueUnavailable
        return [UnknownJob(str(n)) if n > 100 else n * n for n in numbers]


@pytest.fixture
def sage() -> Sage:
    return Sage()


@pytest.fixture
def ask(sage: Sage) -> Iterator[MicroBatcher[int, int]]:
    ask = MicroBatcher(sage, "sage")
    yield ask
    sage.may_answer.set()
    ask.close()


async def until_asked(sage: Sage, turns: int) -> None:
    while len(sage.turns) < turns:
        await asyncio.sleep(0)


async def test_what_comes_while_it_is_out_goes_along_the_next_time(
    sage: Sage, ask: MicroBatcher[int, int]
) -> None:
    sage.may_answer.clear()
    answers = [asyncio.create_task(ask(n)) for n in range(5)]
    await until_asked(sage, 1)
    sage.may_answer.set()
    assert await asyncio.gather(*answers) == [0, 1, 4, 9, 16]
    assert sage.turns == [[0], [1, 2, 3, 4]]


async def test_everybody_gets_their_own_error(sage: Sage, ask: MicroBatcher[int, int]) -> None:
    answers = await asyncio.gather(ask(1), ask(101), ask(2), return_exceptions=True)
    assert [answers[0], answers[2]] == [1, 4]
    assert isinstance(answers[1], UnknownJob)


async def test_trouble_is_everybodys_and_passes(sage: Sage, ask: MicroBatcher[int, int]) -> None:
    sage.away = True
    answers = await asyncio.gather(*map(ask, range(3)), return_exceptions=True)
    assert all(isinstance(answer, QueueUnavailable) for answer in answers)
    sage.away = False
    assert await ask(3) == 9


async def test_who_leaves_takes_nobody_along(sage: Sage, ask: MicroBatcher[int, int]) -> None:
    sage.may_answer.clear()
    stays, leaves = asyncio.create_task(ask(1)), asyncio.create_task(ask(2))
    await until_asked(sage, 1)
    leaves.cancel()
    sage.may_answer.set()
    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert await ask(3) == 9
