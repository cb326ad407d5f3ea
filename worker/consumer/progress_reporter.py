"""Tells how far jobs are, without making the denoising loop wait for it."""

import threading

from protocol.queue.job import Progress
from protocol.queue.progress import ProgressBoard


class Reporter:
    """Keeps only the latest news of each job; a ticker sends them off in one round trip."""

    def __init__(self, board: ProgressBoard) -> None:
        self._board = board
        self._news: dict[str, Progress] = {}
        self._previews: dict[str, bytes] = {}
        self._news_lock = threading.Lock()
        # Held while sending, so that what is forgotten is not on its way either.
        self._sending = threading.Lock()

    def note(self, progress: Progress) -> None:
        """Remember to tell this; costs the caller nothing."""
        with self._news_lock:
            self._news[progress.job_id] = progress

    def show(self, job_id: str, jpeg: bytes) -> None:
        """Remember to show this preview of a job, with the next news of it at the latest."""
        with self._news_lock:
            self._previews[job_id] = jpeg

    def flush(self) -> None:
        """Tell what is new. Raises QueueUnavailable; what was not told is then dropped."""
        with self._sending:
            with self._news_lock:
                news, self._news = list(self._news.values()), {}
                previews, self._previews = self._previews, {}
            if news or previews:
                self._board.publish_all(news, previews)

    def forget(self, job_id: str) -> None:
        """Tell nothing more of a job; to be called before it ends, for the queue tells that."""
        with self._sending, self._news_lock:
            self._news.pop(job_id, None)
            self._previews.pop(job_id, None)
