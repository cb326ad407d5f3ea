"""Reports the progress of jobs without making the engine wait for Redis."""

import threading

from protocol.queue.job import Progress
from protocol.queue.progress import Previews, ProgressBoard


class ProgressReporter:
    """The latest progress of each job; a periodic task sends it in one round trip."""

    def __init__(self, board: ProgressBoard) -> None:
        self._board = board
        self._progress: dict[str, Progress] = {}
        self._previews: dict[str, Previews] = {}
        self._lock = threading.Lock()
        # Held while sending, so that nothing of a forgotten job is on its way.
        self._sending = threading.Lock()

    def note(self, progress: Progress) -> None:
        """Keep this progress for the next `flush`; returns at once."""
        with self._lock:
            self._progress[progress.job_id] = progress

    def show(self, job_id: str, previews: Previews) -> None:
        """Keep these previews of a job; they are sent with its next progress at the latest."""
        with self._lock:
            before = self._previews.get(job_id)
            self._previews[job_id] = previews.after(before) if before else previews

    def flush(self) -> None:
        """Send what is new. Raises QueueUnavailable; what could not be sent is dropped."""
        with self._sending:
            with self._lock:
                progress, self._progress = list(self._progress.values()), {}
                previews, self._previews = self._previews, {}
            if progress or previews:
                self._board.publish_all(progress, previews)

    def forget(self, job_id: str) -> None:
        """Send nothing more of a job. To be called before its ending, which the queue publishes."""
        with self._sending, self._lock:
            self._progress.pop(job_id, None)
            self._previews.pop(job_id, None)
