"""Error responses that are sent before a route runs or after one has crashed."""

import asyncio
import logging
import traceback

from fastapi.sse import format_sse_event
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import DarkroomError, ServiceStopping
from service.middleware.response_status import NO_RESPONSE, ResponseStatus
from service.schemas.problems import problem_event, problem_response

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
INTERNAL_ERROR = 1011  # of a WebSocket (RFC 6455, section 7.4.1)


async def send_error(error: DarkroomError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `error` as the response of the request."""
    await problem_response(HTTPConnection(scope), error)(scope, receive, send)


class ErrorMiddleware:
    """Responds to unexpected exceptions with status 500, and with 503 when the service stops.

    The log gets the traceback without the exception's message, which may quote the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        response = ResponseStatus(send)
        try:
            await self.app(scope, receive, response)
        except asyncio.CancelledError:
            # Only the server cancels: it stops, and has waited for this request as long as it may.
            # The task ends here, so nobody else needs the exception.
            await _end(response, ServiceStopping(), scope, receive)
        except Exception as error:
            await _end(response, shown_error(error), scope, receive)


async def _end(
    response: ResponseStatus, error: DarkroomError, scope: Scope, receive: Receive
) -> None:
    """Send `error` in place of a response, or as the last event of a stream.

    Any other response that has begun is cut short, and the server ends the connection.
    """
    if response.value == NO_RESPONSE:
        await send_error(error, scope, receive, response)
    elif scope["type"] == "websocket" and not response.complete:
        await response({"type": "websocket.close", "code": INTERNAL_ERROR})
    elif response.media_type == EVENT_STREAM and not response.complete:
        last = problem_event(HTTPConnection(scope), error)
        event = format_sse_event(event=last.event, data_str=last.raw_data, retry=last.retry)
        await response({"type": "http.response.body", "body": event})


def shown_error(error: Exception) -> DarkroomError:
    """Return what the client sees of an exception, and log it if it is unexpected."""
    if isinstance(error, DarkroomError):
        return error
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected %s\n%s", type(error).__name__, frames)
    return DarkroomError()
