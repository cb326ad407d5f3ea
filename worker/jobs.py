"""The function that every job names. The name is part of the wire format; it is never called."""

from typing import NoReturn


def generate(**_: object) -> NoReturn:
    """Fail the job: only a stock RQ worker on one of our queues calls this.

    `python -m worker` generates images; it reads jobs and never calls their function.
    """
    raise RuntimeError(
        "a stock RQ worker cannot generate images: start `darkroom worker` for this queue"
    )
