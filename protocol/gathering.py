"""Many small questions asked as few large ones, for programs that run on asyncio.

While one batch is under way in its thread, whatever else is asked gathers for the next. So a lone
question goes out at once, and under load each costs a share of one round trip and of one thread.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from protocol.errors import DarkroomError

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 256  # questions of one batch, so that none of them waits long for the others


class Gatherer(Generic[Q, A]):
    """Asks `ask_many` for everybody on this event loop.

        submit = Gatherer(queue.submit_many)
        job_id = await submit(Submission(request, client=client))

    An answer that is a DarkroomError is raised to who asked; what `ask_many` itself raises, to all
    of its batch. A question whose asker is cancelled is asked nevertheless, if it is under way.
    """

    def __init__(self, ask_many: Callable[[Sequence[Q]], Sequence[A | DarkroomError]]) -> None:
        self._ask_many = ask_many
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, question: Q) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                batch = [(question, answer) for question, answer in batch if not answer.done()]
                await self._ask_batch(batch)
        finally:
            self._asking = None

    async def _ask_batch(self, batch: list[tuple[Q, "asyncio.Future[A]"]]) -> None:
        questions = [question for question, _ in batch]
        found: Sequence[A | Exception]
        try:
            found = await asyncio.to_thread(self._ask_many, questions)
        except Exception as error:  # theirs to handle, who asked
            found = [error] * len(batch)
        for (_, answer), one in zip(batch, found, strict=True):
            if answer.done():  # its asker has gone
                continue
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)
