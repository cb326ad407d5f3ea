"""The state of a request in fal's queue, and its log: a line for the progress."""

from collections.abc import Mapping
from datetime import UTC, datetime

from protocol.queue.job import JobState, JobView
from service.dialects.fal.answers import FalLog, FalMetrics, FalStatus, inference_s
from service.dialects.fal.errors import ending_error, error_type
from service.schemas.problems import problem_of

BAR = 20  # characters


def urls_of(base_url: str, owner: str, alias: str, request_id: str) -> dict[str, str]:
    """Return the addresses of a request, below the URL of this service."""
    response = f"{base_url}/fal/queue/{owner}/{alias}/requests/{request_id}"
    return {
        "response_url": response,
        "status_url": f"{response}/status",
        "cancel_url": f"{response}/cancel",
    }


def status_of(job: JobView, urls: Mapping[str, str], logs: bool) -> FalStatus:
    """Return the state of a job; its log only if `logs`."""
    lines = [line] if logs and (line := log_line(job)) else []
    shown = lines if logs else None
    match job.state:
        case JobState.QUEUED:
            position = job.position or 0
            return FalStatus(
                status="IN_QUEUE", request_id=job.id, queue_position=position, logs=shown, **urls
            )
        case JobState.RUNNING:
            return FalStatus(status="IN_PROGRESS", request_id=job.id, logs=shown, **urls)
    ended = FalStatus(
        status="COMPLETED", request_id=job.id, logs=shown, metrics=FalMetrics(), **urls
    )
    if job.result is not None:
        ended.metrics = FalMetrics(inference_time=inference_s(job))
    else:
        problem = problem_of(ending_error(job))
        ended.error, ended.error_type = problem.detail, error_type(problem)
    return ended


def log_line(job: JobView) -> FalLog | None:
    """Return the progress of a job in the form of tqdm; None while it is not known."""
    if job.result is not None:
        return _line(1, 1)
    if job.progress is None or not job.progress.steps:
        return None
    return _line(job.progress.step, job.progress.steps)


def _line(step: int, steps: int) -> FalLog:
    done = BAR * step // steps
    bar = "█" * done + " " * (BAR - done)
    count = f" {step}/{steps}" if steps > 1 else ""
    return FalLog(
        message=f"{100 * step // steps:3d}%|{bar}|{count}", timestamp=datetime.now(UTC).isoformat()
    )
