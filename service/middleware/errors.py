"""Turns unexpected exceptions into error responses."""

import logging
import traceback

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.errors import DarkroomError
from service.schemas.problems import problem_response

log = logging.getLogger(__name__)


class ErrorMiddleware:
    """Answers what nobody foresaw, and logs it without its words: they may quote the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def sending(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("unforeseen %s\n%s", type(error).__name__, place)
            if not answering:  # else the server ends the connection, as the answer is cut short
                await problem_response(Request(scope), DarkroomError())(scope, receive, send)
