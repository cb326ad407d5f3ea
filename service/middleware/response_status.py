"""The status of a response on its way through a middleware."""

from starlette.types import Message, Send

NO_RESPONSE = "none"  # the client disconnected, or nothing has been sent yet


class ResponseStatus:
    """A `send` that records the status it passes on; `NO_RESPONSE` before there is one."""

    def __init__(self, send: Send) -> None:
        self.value = NO_RESPONSE
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.value = str(message["status"])
        await self._send(message)
