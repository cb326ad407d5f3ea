"""A thread that repeats small tasks at fixed intervals, also after one of them fails."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from redis import RedisError

from protocol.errors import QueueUnavailable

logger = logging.getLogger(__name__)


@dataclass
class PeriodicTask:
    """A task that is run every `every_s` seconds, first at once."""

    every_s: float
    work: Callable[[], None]
    due: float = field(default=0.0)


class PeriodicRunner:
    """Runs tasks in one thread until the `with` block is left.

    A task that fails is tried again at its next time. An outage of Redis is logged once.
    """

    def __init__(self, *tasks: PeriodicTask) -> None:
        self._tasks = tasks
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="periodic", daemon=True)
        self._without_redis: set[int] = set()  # tasks whose last run found Redis away

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds_to_next()):
            for number, task in enumerate(self._tasks):
                if task.due <= time.monotonic():
                    self._run_task(number, task)

    def _seconds_to_next(self) -> float:
        return max(0.0, min(task.due for task in self._tasks) - time.monotonic())

    def _run_task(self, number: int, task: PeriodicTask) -> None:
        task.due = time.monotonic() + task.every_s
        was_away = bool(self._without_redis)
        try:
            task.work()
        except (RedisError, QueueUnavailable) as error:
            self._without_redis.add(number)
            if not was_away:
                logger.warning("redis is away", extra={"error": type(error).__name__})
        except Exception:
            logger.exception("a periodic task failed", extra={"task": task.work.__name__})
        else:
            # A task that did not need Redis this time proves nothing for those that did.
            self._without_redis.discard(number)
            if was_away and not self._without_redis:
                logger.info("redis is back")
