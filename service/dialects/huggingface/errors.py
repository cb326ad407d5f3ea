"""Errors in Hugging Face's form: `{"error"}`, and `estimated_time` while no model is loaded.

`@huggingface/inference` repeats a 503 at once and without end. So only a request that has waited
for a model gets one, and other errors that are a 503 in our API have another status here.
"""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from service.schemas.error_format import ErrorFormat
from service.schemas.problem import Problem
from service.schemas.problems import RETRY_AFTER_S

NO_MODEL = "unknown-model"
# Problems that end when other requests do.
BUSY = frozenset({"too-many-connections", "overloaded"})


class HuggingFaceError(BaseModel):
    """The body of every error. `estimated_time`: seconds after which a retry may succeed."""

    error: str
    estimated_time: float | None = Field(default=None, description="Only of status 503.")


def _body(problem: Problem) -> dict[str, Any]:
    return HuggingFaceError(error=problem.detail).model_dump(exclude_none=True)


def _body_of_loading(problem: Problem) -> dict[str, Any]:
    return HuggingFaceError(error=problem.detail, estimated_time=RETRY_AFTER_S).model_dump()


def _status(problem: Problem) -> int:
    if problem.kind == NO_MODEL:
        return HTTPStatus.NOT_FOUND
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        busy = problem.kind in BUSY
        return HTTPStatus.TOO_MANY_REQUESTS if busy else HTTPStatus.INTERNAL_SERVER_ERROR
    return problem.status


HUGGINGFACE_ERRORS = ErrorFormat(_body, _status)
LOADING_ERRORS = ErrorFormat(_body_of_loading)
