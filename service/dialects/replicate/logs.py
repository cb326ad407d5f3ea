"""The logs of a prediction: its progress as tqdm writes it, from which clients read it."""

from protocol.queue.job import JobState, JobView, Phase

WIDTH = 10  # characters of a bar
PERCENT = 100
AFTERWARDS = (Phase.DECODE, Phase.DELIVER)


def logs_of(view: JobView, steps: int) -> str:
    """Return the logs of a job so far; later ones begin with them.

    `steps` are those of a job that has done all of them. One that failed or was cancelled has none.
    """
    progress = view.progress
    if view.state is JobState.FINISHED or (progress and progress.phase in AFTERWARDS):
        return _bars(steps, steps)
    if progress is None or view.state is not JobState.RUNNING or progress.phase is Phase.LOAD:
        return ""
    return _bars(progress.step, progress.steps)


def _bars(step: int, steps: int) -> str:
    """Return a line for the first step of each percent up to `step`."""
    if steps < 1:
        return ""
    percents = dict.fromkeys(PERCENT * done // steps for done in range(min(step, steps) + 1))
    return "".join(_line(percent, steps) for percent in percents)


def _line(percent: int, steps: int) -> str:
    done = -(-percent * steps // PERCENT)
    bar = "#" * (WIDTH * percent // PERCENT)
    return f"{percent:3d}%|{bar:<{WIDTH}}| {done}/{steps}\n"
