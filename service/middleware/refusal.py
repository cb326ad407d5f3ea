"""Answers a request with an error before it reaches a route."""

from starlette.requests import Request
from starlette.types import Receive, Send
from starlette.types import Scope as Call

from protocol.errors import DarkroomError
from service.schemas.problems import problem_response


async def refuse(error: DarkroomError, scope: Call, receive: Receive, send: Send) -> None:
    """Send `error` as the response of the request."""
    await problem_response(Request(scope), error)(scope, receive, send)
