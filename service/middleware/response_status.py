"""The status of a response on its way through a middleware."""

from starlette.datastructures import Headers
from starlette.types import Message, Send

NO_RESPONSE = "none"  # the client disconnected, or nothing has been sent yet
SWITCHED = "101"  # to a WebSocket
REFUSED = "403"  # a WebSocket that is closed before it is accepted


class ResponseStatus:
    """A `send` that records the status it passes on; `NO_RESPONSE` before there is one."""

    def __init__(self, send: Send) -> None:
        self.value = NO_RESPONSE
        self.complete = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._send = send

    async def __call__(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.value = str(message["status"])
                self._headers = message.get("headers", [])
            case "websocket.accept":
                self.value = SWITCHED
            case "websocket.send":
                pass
            case "websocket.close":
                self.value = REFUSED if self.value == NO_RESPONSE else self.value
                self.complete = True
            case _:
                self.complete = not message.get("more_body", False)
        await self._send(message)

    @property
    def media_type(self) -> str:
        """Return the media type of the response, without parameters."""
        return Headers(raw=self._headers).get("content-type", "").partition(";")[0]
