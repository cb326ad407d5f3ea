"""The response to what is no valid request of HTTP/1.1, and so reaches no application."""

from starlette.requests import Request
from starlette.responses import Response

from protocol.errors import MalformedRequest
from service.schemas.problems import problem_response


def malformed_request(reason: str) -> Response:
    """Return the problem, with status 400. It is the last response of its connection."""
    response = problem_response(Request({"type": "http", "headers": []}), MalformedRequest(reason))
    response.headers["Connection"] = "close"
    return response


def as_sent(response: Response) -> bytes:
    """Return such a response as the bytes to send."""
    head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(response.body)
