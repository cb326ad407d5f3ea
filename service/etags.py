"""Validators of responses (RFC 9110, section 8.8.3): a client that has the content gets a 304."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response


def etag_of(content: bytes) -> str:
    """Return a strong entity tag of `content`."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def not_modified(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return a 304 if the client has the content with the `ETag` of `headers` already.

    Tags are compared weakly, as `If-None-Match` asks for: a proxy that compresses makes them weak.
    """
    given = ",".join(request.headers.getlist("if-none-match"))
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    if tags.isdisjoint({"*", headers["ETag"]}):
        return None
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
