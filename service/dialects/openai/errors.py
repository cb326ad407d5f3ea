"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from service.schemas.error_format import PROBLEM_JSON, ErrorFormat
from service.schemas.problem import Problem

TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
# OpenAI's codes of our problems; others have our name.
CODES = {
    "unauthorized": "invalid_api_key",
    "unknown-model": "model_not_found",
    "missing-field": "missing_required_parameter",
    "wrong-type": "invalid_type",
    "unknown-choice": "invalid_value",
    "out-of-range": "invalid_value",
    "size-not-possible": "invalid_size",
    "rate-limited": "rate_limit_exceeded",
}
# Problems with another status than ours. A wrong value is 400, by which OpenAI's clients know it.
STATUSES = {"unknown-model": HTTPStatus.NOT_FOUND}
# A client that repeats one of these would begin another job: the first is cancelled or goes on.
NOT_AGAIN = (HTTPStatus.CONFLICT, HTTPStatus.GATEWAY_TIMEOUT)


class OpenAIError(BaseModel):
    """An error: `param` is the field, `code` a short id."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(default=None, examples=["size"])
    code: str | None = Field(default=None, examples=["invalid_size"])


class OpenAIErrorResponse(BaseModel):
    """The body of every error of the dialect."""

    error: OpenAIError


def openai_error(problem: Problem) -> OpenAIErrorResponse:
    """Return a problem in OpenAI's form."""
    status = HTTPStatus(_status(problem))
    fault = "server_error" if status >= 500 else "invalid_request_error"
    return OpenAIErrorResponse(
        error=OpenAIError(
            message=problem.detail,
            type=TYPES.get(status, fault),
            param=problem.field,
            code=CODES.get(problem.kind, problem.kind.replace("-", "_")),
        )
    )


def _body(problem: Problem) -> dict[str, Any]:
    return openai_error(problem).model_dump()


def _body_of_models(problem: Problem) -> dict[str, Any]:
    """Return a problem with OpenAI's error in it, for routes that both APIs have."""
    ours: dict[str, Any] = problem.model_dump(mode="json", exclude_none=True)
    theirs = openai_error(problem)
    if problem.status == HTTPStatus.NOT_FOUND:  # also without a route, as for a name with a slash
        theirs.error.code = CODES["unknown-model"]
    return ours | theirs.model_dump()


def _status(problem: Problem) -> int:
    if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return STATUSES.get(problem.kind, HTTPStatus.BAD_REQUEST)
    return problem.status


def _headers(problem: Problem) -> Mapping[str, str]:
    return {"x-should-retry": "false"} if problem.status in NOT_AGAIN else {}


OPENAI_ERRORS = ErrorFormat(_body, _status, _headers, event="error")
MODELS_ERRORS = ErrorFormat(_body_of_models, media_type=PROBLEM_JSON.media_type)
