"""Error responses that are sent before a route runs or after one has crashed."""

import logging
import traceback

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import DarkroomError
from service.middleware.response_status import NO_RESPONSE, ResponseStatus
from service.schemas.problems import problem_response

log = logging.getLogger(__name__)


async def send_error(error: DarkroomError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `error` as the response of the request."""
    await problem_response(Request(scope), error)(scope, receive, send)


class ErrorMiddleware:
    """Responds to unexpected exceptions with status 500.

    The log gets the traceback without the exception's message, which may quote the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = ResponseStatus(send)
        try:
            await self.app(scope, receive, status)
        except Exception as error:
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("unexpected %s\n%s", type(error).__name__, frames)
            if (
                status.value == NO_RESPONSE
            ):  # else the response is cut short, and the server ends the connection
                await send_error(DarkroomError(), scope, receive, send)
