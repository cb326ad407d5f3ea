"""The view of a job, as `lua/view.lua` returns it. The only file here that imports RQ."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from redis import Redis
from rq.job import JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from protocol.errors import DarkroomError, ErrorRecord, JobFailed, UnknownJob
from protocol.queue.job import JobResult, JobState, JobView, Phase, Progress, Warnings
from protocol.queue.submission import WARNINGS

STATES = {
    JobStatus.CREATED: JobState.QUEUED,
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.DEFERRED: JobState.QUEUED,
    JobStatus.SCHEDULED: JobState.QUEUED,
    JobStatus.RATE_LIMITED: JobState.QUEUED,
    JobStatus.READY_TO_ENQUEUE: JobState.QUEUED,
    JobStatus.STARTED: JobState.RUNNING,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.CANCELED: JobState.CANCELLED,
    JobStatus.STOPPED: JobState.CANCELLED,
}


def state_of(status: str) -> JobState | None:
    """Return the state of a job with one of RQ's statuses; None for anything else."""
    return STATES[JobStatus(status)] if status in set(JobStatus) else None


def read_view(redis: Redis, job_id: str, client: str | None, found: Any) -> JobView | UnknownJob:
    """Return the answer of `lua/view.lua` as a view.

    A job of another client than `client` is unknown; None is the operator, who can view all jobs.
    """
    status = _text(found[0]) if found else None
    if status not in STATES or (client is not None and client != _text(found[1])):
        return UnknownJob(job_id)
    *fields, warnings = found
    view = _view_of(redis, job_id, STATES[JobStatus(status)], fields)
    return view.model_copy(update={"warnings": _warnings(warnings)})


def _view_of(redis: Redis, job_id: str, state: JobState, fields: Sequence[Any]) -> JobView:
    _, _, error, progress, ahead, rate, result, left = fields
    due_s = float(left) if left else None
    match state:
        case JobState.QUEUED:
            per_second = float(rate or 0)
            eta = ahead / per_second if ahead is not None and per_second > 0 else None
            latest = _latest(progress, state)
            loading = latest if latest and latest.phase is Phase.LOAD else None
            return JobView(
                id=job_id,
                state=state,
                position=ahead,
                eta_s=eta,
                due_s=due_s,
                progress=loading,
            )
        case JobState.FINISHED:
            return _finished(redis, job_id, _latest(progress, state), result)
        case JobState.FAILED:
            return JobView(id=job_id, state=state, error=_error_record(_text(error)))
        case _:
            latest = _latest(progress, state)
            return JobView(id=job_id, state=state, due_s=due_s, progress=latest)


def _finished(redis: Redis, job_id: str, progress: Progress | None, entries: Any) -> JobView:
    try:
        [(entry_id, fields)] = entries
        payload = dict(zip(map(bytes.decode, fields[::2]), fields[1::2], strict=True))
        latest = Result.restore(job_id, entry_id.decode(), payload, redis, JSONSerializer)
        result = JobResult.model_validate(latest.return_value)
    except (ValueError, KeyError, TypeError):
        # Written by another program, or truncated.
        error = JobFailed("its result cannot be read").to_record()
        return JobView(id=job_id, state=JobState.FAILED, error=error)
    return JobView(id=job_id, state=JobState.FINISHED, progress=progress, result=result)


def _latest(text: Any, state: JobState) -> Progress | None:
    """Return the latest progress, unless it has another state: that of an earlier attempt."""
    with suppress(ValidationError, TypeError):
        progress = Progress.model_validate_json(text)
        return progress if progress.state is state else None
    return None


def _warnings(text: Any) -> Warnings:
    """Return a request's warnings; jobs without any, and those of older versions, have no text."""
    with suppress(ValidationError):
        return () if text is None else WARNINGS.validate_json(text)
    return ()


def _error_record(text: str | None) -> ErrorRecord:
    """Return a job's error as the worker wrote it; a job that RQ itself failed has none."""
    if text is None:
        return DarkroomError().to_record()
    try:
        return ErrorRecord.model_validate_json(text)
    except ValidationError:
        return DarkroomError().to_record()


def _text(value: object) -> str | None:
    """Return Redis' bytes as text, None for anything else."""
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
