"""Questions of many requests that go to Redis as one."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from protocol.errors import DarkroomError

Q = TypeVar("Q")
A = TypeVar("A")

AskAll = Callable[[Sequence[Q]], Sequence[A | DarkroomError]]  # blocks; one answer for each


class MicroBatcher(Generic[Q, A]):
    """Asks in a thread of its own; what comes while it is out goes along the next time.

    So a lone question waits for nobody, and a crowd's share one round trip and one change of
    threads. To be used from one event loop.
    """

    def __init__(self, ask_all: AskAll[Q, A], name: str) -> None:
        self._ask_all = ask_all
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._out = False

    async def __call__(self, question: Q) -> A:
        """The answer. Raises the error that is the answer, or whatever kept all from theirs."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if not self._out:
            self._go()
        return await answer

    def close(self) -> None:
        """End the thread, once it is back."""
        self._thread.shutdown(wait=False)

    def _go(self) -> None:
        asked, self._waiting = self._waiting, []
        self._out = True
        answers = asyncio.get_running_loop().run_in_executor(
            self._thread, self._ask_all, [question for question, _ in asked]
        )
        answers.add_done_callback(lambda answers: self._back(asked, answers))

    def _back(
        self,
        asked: list[tuple[Q, asyncio.Future[A]]],
        answers: asyncio.Future[Sequence[A | DarkroomError]],
    ) -> None:
        self._out = False
        if self._waiting:
            self._go()
        error = answers.exception()
        found = [error] * len(asked) if error else answers.result()
        for (_, waiter), answer in zip(asked, found, strict=True):
            if waiter.done():  # whoever asked has left
                continue
            if isinstance(answer, BaseException):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
