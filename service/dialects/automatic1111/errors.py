"""Errors in AUTOMATIC1111's form: `{"error", "detail", "body", "errors"}`."""

from collections.abc import Iterable
from http import HTTPStatus

from pydantic import JsonValue

from protocol.errors import InvalidRequest
from service.schemas.error_format import ErrorFormat
from service.schemas.problem import Problem

REFUSED_KEY = "Incorrect username or password"
NO_INIT_IMAGE, NO_SAMPLER = "init-image-not-found", "sampler-not-found"
# The statuses of problems that AUTOMATIC1111 says by another than 422.
STATUSES = {NO_INIT_IMAGE: HTTPStatus.NOT_FOUND, NO_SAMPLER: HTTPStatus.BAD_REQUEST}


def _body(problem: Problem) -> JsonValue:
    if problem.status == HTTPStatus.UNAUTHORIZED:
        return {"detail": REFUSED_KEY}
    return {"error": problem.title, "detail": problem.detail, "body": "", "errors": problem.detail}


def _status(problem: Problem) -> int:
    return STATUSES.get(problem.kind, problem.status)


AUTOMATIC1111_ERRORS = ErrorFormat(_body, _status, challenge="Basic")


class ScriptNotFound(InvalidRequest):
    """A script that is not here, in the words that AUTOMATIC1111's clients know."""

    def __init__(self, field: str, name: str) -> None:
        super().__init__(field, name, "a script of /sdapi/v1/scripts", "unknown-script")
        self.message = f"Script '{self.value}' not found"


class SamplerNotFound(InvalidRequest):
    """A sampler that the model does not have."""

    def __init__(self, name: str, offered: Iterable[str]) -> None:
        super().__init__("sampler_name", name, f"one of {', '.join(offered)}", NO_SAMPLER)
        self.message = f"Sampler not found: {self.message}"


class InitImageNotFound(InvalidRequest):
    """A request of img2img without an image."""

    def __init__(self) -> None:
        super().__init__("init_images", None, "a list of images", NO_INIT_IMAGE)
        self.message = "Init image not found"
