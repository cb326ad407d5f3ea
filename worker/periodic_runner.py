"""A thread that does small chores at their own pace, whatever becomes of each of them."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from redis import RedisError

from protocol.errors import QueueUnavailable

logger = logging.getLogger(__name__)


@dataclass
class PeriodicTask:
    """`work` is to be done every `every_s` seconds, first at once."""

    every_s: float
    work: Callable[[], None]
    due: float = field(default=0.0)


class PeriodicRunner:
    """Runs chores from one thread until the `with` block is left.

    A chore that fails is tried again at its next turn. That Redis is away is told once per outage.
    """

    def __init__(self, *chores: PeriodicTask) -> None:
        self._chores = chores
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._in_vain: set[int] = set()  # chores whose last try found Redis away

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds_to_next()):
            for number, chore in enumerate(self._chores):
                if chore.due <= time.monotonic():
                    self._do(number, chore)

    def _seconds_to_next(self) -> float:
        return max(0.0, min(chore.due for chore in self._chores) - time.monotonic())

    def _do(self, number: int, chore: PeriodicTask) -> None:
        chore.due = time.monotonic() + chore.every_s
        was_away = bool(self._in_vain)
        try:
            chore.work()
        except (RedisError, QueueUnavailable) as error:
            self._in_vain.add(number)
            if not was_away:
                logger.warning("redis is away", extra={"error": type(error).__name__})
        except Exception:
            logger.exception("a chore failed", extra={"chore": chore.work.__name__})
        else:
            # One that had no need of Redis this time says nothing of it to those that had.
            self._in_vain.discard(number)
            if was_away and not self._in_vain:
                logger.info("redis is back")
