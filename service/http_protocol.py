"""Time and size limits of an HTTP connection, and its end, on top of uvicorn's protocol class.

uvicorn waits without limit for the head of a request and for a client that stops reading the
response, keeps headers of any length, and resets the connection of a client that is refused while
it sends. Bodies are limited in `service.middleware.body_limit`.
"""

import asyncio

import httptools
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.http_upgrades import UpgradableHttpProtocol
from service.lingering import LingeringTransport
from service.malformed_requests import as_sent, malformed_request
from service.middleware.upload_pace import UploadPace
from service.routes.waiting import INPUT_ENDED
from service.settings import ServiceSettings
from service.unread_response import UnreadResponseTimer
from service.websocket_protocol import MAX_MESSAGE_BYTES, BoundedWebSocketProtocol

MAX_HEAD_BYTES = 65_536  # headers, trailers, chunk extensions: everything that is not body
DISCARDED_BODIES = 4  # of the largest size: read and discarded after a request was refused


def server_config(app: FastAPI, settings: ServiceSettings) -> Config:
    """Return uvicorn's configuration to serve `app`."""

    class Protocol(BoundedHttpProtocol):
        header_timeout_s = settings.header_timeout_s
        send_timeout_s = settings.send_timeout_s
        max_connections = settings.max_connections
        pace = UploadPace.from_settings(settings)
        max_discarded_bytes = DISCARDED_BODIES * settings.max_body_bytes

    return Config(
        app,
        host="" if settings.host == "::" else settings.host,  # "": of IPv6 and IPv4; "::": IPv6
        port=settings.port,
        http=Protocol,
        ws=BoundedWebSocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_keep_alive=settings.keep_alive_s,
        server_header=False,
        proxy_headers=False,  # replaced by `service.middleware.forwarded`
        access_log=False,  # replaced by `service.middleware.access_log`
        log_config=None,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )


class BoundedHttpProtocol(UpgradableHttpProtocol):
    """One connection, closed if its client is too slow or sends too many header bytes."""

    transport: LingeringTransport
    header_timeout_s: float
    send_timeout_s: float
    max_connections: int
    pace: UploadPace
    max_discarded_bytes: int

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None  # while a request head is incomplete
        self._head_bytes = 0  # received since the last chunk of a body
        self._is_receiving = False  # a request whose end has not arrived
        self._input_ended = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        lingering = LingeringTransport(
            transport, lambda: self._is_receiving, self.pace, self.max_discarded_bytes
        )
        self._send_timer = UnreadResponseTimer(lingering, self.send_timeout_s)
        super().connection_made(lingering)
        self._start_head_timer()
        if len(self.connections) > self.max_connections:
            self._close_longest_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.stop()
        self._stop_head_timer()
        self._send_timer.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.lingering:
            self.transport.discard(len(data))
            return
        self._unset_keepalive_if_required()
        if self.is_idle():  # also for an empty line, which begins no request
            self._start_head_timer()
        self._head_bytes += len(data)
        try:
            self.parse(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("it cannot be parsed")
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.is_idle():
                self.send_400_response("its headers are too long")
            else:
                self.transport.abort()

    def shutdown(self) -> None:
        self.transport.close_at_once()
        super().shutdown()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return True to keep the connection: a client may end its side and await its response.

        A client that ends its side during a response does not read the rest.
        """
        if self.transport.lingering or (self.is_idle() and not self._is_receiving):
            return False
        if self._is_receiving:
            self.send_400_response("it ends early")
        if self.transport.is_closing():
            return False
        self._input_ended.set()
        self.cycle.keep_alive = False
        return bool(self.pipeline) or not self.cycle.response_started

    def send_400_response(self, msg: str) -> None:
        """Respond to a request that cannot be read; `msg` is the reason.

        Requests before it are answered first. It is the last one of the connection.
        """
        self._is_receiving = True  # what follows is of unknown length
        response = malformed_request(msg)
        if not self.is_idle():
            self.cycle.keep_alive = False
            if not self.cycle.more_body or self.cycle.response_started:
                return
            if self.pipeline:
                self.pipeline[0] = (self.cycle, response)  # type: ignore[assignment]
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(as_sent(response))
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_receiving = True
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        if self.offers_upgrade():
            super().on_headers_complete()
            return
        self._stop_head_timer()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # such a client does not know 1xx (RFC 9110, 10.1.1)
        self.scope["state"] |= {
            "connections": len(self.connections),
            INPUT_ENDED: self._input_ended,
        }
        super().on_headers_complete()
        self.headers = []  # else the parser would append trailers to the headers

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.offers_upgrade():
            self._head_bytes = 0
            self._is_receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._send_timer.start()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._send_timer.stop()
        if self.is_idle() and self.transport.get_write_buffer_size():
            self._send_timer.start()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to `BoundedWebSocketProtocol`."""
        self._stop_head_timer()
        self._send_timer.stop()
        self._is_receiving = False
        super().handle_websocket_upgrade()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        """Serve a request; a response that comes before the end of the body ends the connection."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_to_end(message: Message) -> None:
                if cycle.more_body:
                    cycle.keep_alive = False
                await send(message)

            await app(scope, receive, send_to_end)

        super()._start_asgi_task(cycle, serve)  # type: ignore[arg-type]

    def _close_longest_idle(self) -> None:
        """Close the connection that has been idle for longest, if there is an idle one."""
        idle = {
            connection.timeout_keep_alive_task.when(): connection
            for connection in self.connections
            if isinstance(connection, BoundedHttpProtocol) and connection.timeout_keep_alive_task
        }
        if idle:
            longest_idle = idle[min(idle)]
            longest_idle.transport.close()
            self.connections.discard(longest_idle)  # not only when its end is reported

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_timeout_s, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self.is_idle():
            self.transport.close()
        else:  # the response to the request before comes first
            self.cycle.keep_alive = False
