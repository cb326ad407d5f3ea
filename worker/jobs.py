"""The function that every job names. It is a name on the wire, and nothing to be called."""

from typing import NoReturn


def generate(**_: object) -> NoReturn:
    """Runs only when a stock RQ worker was started on a queue of ours: says so, and fails the job.

    Pictures are made by `python -m worker`, which reads jobs and never calls what they name.
    """
    raise RuntimeError("a stock RQ worker cannot draw: start `darkroom worker` for this queue")
