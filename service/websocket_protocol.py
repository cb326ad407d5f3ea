"""Limits of a WebSocket connection, on top of uvicorn's protocol class.

Clients only listen: what they send is not used, and may be small only. A client that stops reading
does not answer a ping, and is then cut off. uvicorn answers an invalid handshake with a bare text,
or not at all.
"""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.server import ServerProtocol

from service.malformed_requests import as_sent, malformed_request

# At the end of a path: an offer of this protocol at others is ignored, as any offer is.
PATH_END = b"/ws"
MAX_MESSAGE_BYTES = 1024
SWITCHING_PROTOCOLS = 101

log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)  # uvicorn's lines have the query of the client; we log requests


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connections": len(self.connections)}

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse()

    def handle_connect(self, event: Request) -> None:
        if ServerProtocol().accept(event).status_code == SWITCHING_PROTOCOLS:
            super().handle_connect(event)
        else:
            self._refuse()

    def _refuse(self) -> None:
        """Respond to a handshake that is not valid."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(as_sent(malformed_request("it is no handshake of a WebSocket")))
        self.transport.close()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # else uvicorn logs an error for every refusal

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # a close would wait until the client reads
