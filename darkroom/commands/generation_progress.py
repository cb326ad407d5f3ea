"""The progress bar of `darkroom generate`: steps of one job, or how many jobs are done."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom_client import JobState, JobStatus


class GenerationProgress:
    """Shows the steps of a job; of several jobs, how many are done."""

    def __init__(self, console: Console, jobs: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._of_one = jobs == 1
        self._is_shown = False
        self._task = self._bar.add_task("waiting", total=None if self._of_one else jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_shown:
            self._bar.stop()

    def update(self, status: JobStatus) -> None:
        """Show the state of a job; the first call shows the bar."""
        if not self._is_shown:
            self._is_shown = True
            self._bar.start()
        if self._of_one:
            self._bar.update(self._task, description=_text(status))
            if status.steps:
                self._bar.update(self._task, completed=status.step, total=status.steps)
        elif status.state is JobState.RUNNING:
            self._bar.update(self._task, description="generating")

    def finish_one(self) -> None:
        """Show that a job is done."""
        if self._of_one:
            # The last step and the end may come in one event, which then has no progress.
            self._bar.update(self._task, completed=self._bar.tasks[self._task].total)
        else:
            self._bar.advance(self._task)


def _text(status: JobStatus) -> str:
    if status.state is JobState.QUEUED and status.position:
        return f"waiting, {status.position} ahead"
    named = {JobState.QUEUED: "waiting", JobState.RUNNING: "generating"}
    return named.get(status.state, status.state.value)
