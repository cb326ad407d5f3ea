"""Questions gather while a batch is under way, and each asker gets an answer of its own."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from protocol.errors import DarkroomError, NotReady, QueueUnavailable
from protocol.gathering import MOST, Gatherer


class Oracle:
    """Doubles numbers, refuses odd ones, and keeps the first batch waiting until `gate` is set."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()

    def __call__(self, questions: Sequence[int]) -> list[int | DarkroomError]:
        self.gate.wait()
        self.batches.append(len(questions))
        return [NotReady("odd") if one % 2 else 2 * one for one in questions]


async def ask(oracle: Oracle, questions: Sequence[int]) -> list[int | BaseException]:
    gatherer = Gatherer(oracle)
    first = asyncio.create_task(gatherer(0))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(gatherer(one)) for one in questions]
    await asyncio.sleep(0)
    oracle.gate.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_what_is_asked_meanwhile_goes_out_together() -> None:
    oracle = Oracle()
    answers = asyncio.run(ask(oracle, range(2, 2 * MOST + 4, 2)))
    assert answers == list(range(0, 4 * MOST + 8, 4))
    assert sum(oracle.batches) == MOST + 2
    assert max(oracle.batches) == MOST
    assert len(oracle.batches) <= 3


def test_a_refusal_reaches_its_asker_only() -> None:
    answers = asyncio.run(ask(Oracle(), [1, 2]))
    assert answers[::2] == [0, 4]
    assert isinstance(answers[1], NotReady)


def test_a_failure_reaches_everybody_and_the_next_are_asked_again() -> None:
    attempts = 0

    def fails_once(questions: Sequence[int]) -> list[int | DarkroomError]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise QueueUnavailable
        return list(questions)

    async def talk() -> int:
        gatherer = Gatherer(fails_once)
        with pytest.raises(QueueUnavailable):
            await gatherer(1)
        return await gatherer(2)

    assert asyncio.run(talk()) == 2


def test_one_who_leaves_takes_nobody_along() -> None:
    async def talk() -> int:
        oracle = Oracle()
        gatherer = Gatherer(oracle)
        leaving, staying = (asyncio.create_task(gatherer(one)) for one in (2, 4))
        await asyncio.sleep(0)
        leaving.cancel()
        oracle.gate.set()
        return await staying

    assert asyncio.run(talk()) == 8
