"""Errors in fal's form: `{"detail"}`, a text, or for a wrong field a list as FastAPI has it.

`message` is not fal's: its client for JavaScript and the AI SDK show it.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from protocol.errors import DarkroomError, InvalidRequest, JobCancelled
from protocol.queue.job import JobState, JobView
from service.schemas.error_format import ErrorFormat
from service.schemas.problem import Problem

IN_PROGRESS, WRONG_TARGET = "request-in-progress", "unknown-target"
# Problems with another status than ours. The Python client would repeat a 409, and so begin
# another job.
STATUSES = {
    "unknown-model": HTTPStatus.NOT_FOUND,
    "job-cancelled": HTTPStatus.BAD_REQUEST,
    IN_PROGRESS: HTTPStatus.BAD_REQUEST,
    WRONG_TARGET: HTTPStatus.BAD_REQUEST,
}
ERROR_TYPE_HEADER, REQUEST_ID_HEADER = "x-fal-error-type", "x-fal-request-id"
# A 504 without it would be repeated, which would begin another job.
NOT_AGAIN = {"x-fal-request-timeout-type": "user"}


class FalFieldError(BaseModel):
    """A wrong field of a body; `loc` is the way to it."""

    loc: list[str]
    msg: str
    type: str


class FalError(BaseModel):
    """The body of every error."""

    detail: str | list[FalFieldError]
    message: str


class RequestInProgress(InvalidRequest):
    """A request that has no result yet."""

    def __init__(self, request_id: str) -> None:
        super().__init__("request_id", request_id, "that of a request that has ended", IN_PROGRESS)
        self.message = "Request is still in progress"


def ending_error(job: JobView) -> DarkroomError:
    """Return the error of a job that has ended without a result."""
    if job.state is JobState.CANCELLED:
        return JobCancelled(job.id)
    return DarkroomError.from_record(job.error) if job.error else DarkroomError()


def fal_error(problem: Problem) -> FalError:
    """Return a problem in fal's form."""
    if _status(problem) != HTTPStatus.UNPROCESSABLE_ENTITY or problem.field is None:
        return FalError(detail=problem.detail, message=problem.detail)
    loc = ["body", *problem.field.split(".")]
    wrong = FalFieldError(loc=loc, msg=problem.detail, type=error_type(problem))
    return FalError(detail=[wrong], message=problem.detail)


def error_type(problem: Problem) -> str:
    """Return the short id of a problem, as the header and the status of a request have it."""
    return problem.kind.replace("-", "_")


def _body(problem: Problem) -> dict[str, Any]:
    return fal_error(problem).model_dump()


def _status(problem: Problem) -> int:
    return STATUSES.get(problem.kind, problem.status)


def _headers(problem: Problem) -> Mapping[str, str]:
    headers = {ERROR_TYPE_HEADER: error_type(problem)}
    if problem.job is not None:
        headers[REQUEST_ID_HEADER] = problem.job.rpartition("/")[2]
    return headers | (NOT_AGAIN if problem.status == HTTPStatus.GATEWAY_TIMEOUT else {})


FAL_ERRORS = ErrorFormat(_body, _status, _headers, event="error")
