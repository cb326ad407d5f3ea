"""Time and size limits of an HTTP connection, on top of uvicorn's protocol class.

uvicorn waits without limit for the head of a request and for a client that stops reading the
response, and keeps headers of any length. Bodies are limited in `service.middleware.body_limit`.
"""

import asyncio

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.settings import ServiceSettings

MAX_HEAD_BYTES = 65_536  # headers, trailers, chunk extensions: everything that is not body
MIN_READ_BYTES = 262_144  # bytes of a response that a client must read between two checks


def server_config(app: FastAPI, settings: ServiceSettings) -> Config:
    """Return uvicorn's configuration to serve `app`."""

    class Protocol(BoundedHttpProtocol):
        header_timeout_s = settings.header_timeout_s
        send_timeout_s = settings.send_timeout_s

    return Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        limit_concurrency=settings.max_connections,
        server_header=False,
        access_log=False,  # replaced by `service.middleware.access_log`
        log_config=None,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection, closed if its client is too slow or sends too many header bytes."""

    header_timeout_s: float
    send_timeout_s: float

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
        self._send_timer: asyncio.TimerHandle | None = None  # while a response is not yet read
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._send_timer:
            self._send_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_idle():  # also for an empty line, which begins no request
            self._start_head_timer()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self._is_idle():
                self.send_400_response("The headers of this request are too long.")
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        super().on_headers_complete()
        self.headers = []  # else the parser would append trailers to the headers

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:  # the response came early; the rest of the body is discarded
            self._start_head_timer()
        if self.transport.get_write_buffer_size():
            self._start_send_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_send_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
        if self._is_idle() and self.transport.get_write_buffer_size():
            self._start_send_timer()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_timeout_s, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        self.transport.close()

    def _start_send_timer(self) -> None:
        if self._send_timer is None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._send_timer = self.loop.call_later(self.send_timeout_s, self._check_reader)

    def _check_reader(self) -> None:
        """Abort the connection if the client read too little; check again while data is unsent."""
        self._send_timer = None
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._unsent_bytes - unsent < min(MIN_READ_BYTES, self._unsent_bytes):
            self.transport.abort()
        elif unsent:
            self._start_send_timer()
