"""Tells how far jobs are, without making the denoising loop wait for it."""

import threading
from contextlib import suppress

from protocol.errors import QueueUnavailable
from protocol.job import JobState, Progress
from protocol.progress import ProgressBoard


class Reporter:
    """Keeps only the latest news of each job; a ticker sends them off in one round trip."""

    def __init__(self, board: ProgressBoard) -> None:
        self._board = board
        self._news: dict[str, Progress] = {}
        self._news_lock = threading.Lock()
        # Held while sending, so that a job's last word is not overtaken by an earlier one.
        self._sending = threading.Lock()

    def note(self, progress: Progress) -> None:
        """Remember to tell this; costs the caller nothing."""
        with self._news_lock:
            self._news[progress.job_id] = progress

    def flush(self) -> None:
        """Tell what is new. Raises QueueUnavailable; what was not told is then dropped."""
        with self._sending:
            with self._news_lock:
                news, self._news = list(self._news.values()), {}
            if news:
                self._board.publish_all(news)

    def ended(self, job_id: str, state: JobState) -> None:
        """Tell at once that a job has ended, or has gone back to the queue.

        If Redis is away nobody hears it; those who wait look at the queue now and then.
        """
        with self._sending:
            with self._news_lock:
                self._news.pop(job_id, None)
            with suppress(QueueUnavailable):
                self._board.publish(Progress(job_id=job_id, state=state))
