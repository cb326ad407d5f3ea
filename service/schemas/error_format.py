"""The form of an error response: problem+json, or that of the API that the client speaks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue
from starlette.types import Scope

from service.schemas.problem import MEDIA_TYPE, Problem


@dataclass(frozen=True)
class ErrorFormat:
    """The form in which an API says errors.

    `body` returns the JSON of a problem, `status` its HTTP status, and `headers` further headers.
    `challenge` is the WWW-Authenticate header of a refused key, `event` the name of an error in a
    stream of server-sent events.
    """

    body: Callable[[Problem], JsonValue]
    status: Callable[[Problem], int] = lambda problem: problem.status
    headers: Callable[[Problem], Mapping[str, str]] = lambda problem: {}
    media_type: str = "application/json"
    challenge: str = "Bearer"
    event: str = "problem"

    def content(self, problem: Problem) -> bytes:
        """Return the body of the response."""
        return json.dumps(self.body(problem), ensure_ascii=False, separators=(",", ":")).encode()


def _problem_body(problem: Problem) -> JsonValue:
    body: JsonValue = problem.model_dump(mode="json", exclude_none=True)
    return body


PROBLEM_JSON = ErrorFormat(_problem_body, media_type=MEDIA_TYPE)


def error_format(scope: Scope) -> ErrorFormat:
    """Return the form of errors for a request, which `ErrorFormatMiddleware` has noted."""
    found: ErrorFormat = scope.get("error_format", PROBLEM_JSON)
    return found
