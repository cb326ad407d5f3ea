"""Connections as we serve them: uvicorn's own, but patient to a limit.

uvicorn waits for ever for the head of a request, for a client that stops reading its answer, and
keeps whatever length of headers it is sent. A body is looked after by
`service.middleware.body_limit`.
"""

import asyncio

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.settings import ServiceSettings

MOST_HEAD_BYTES = 65_536  # of headers, trailers and the like: all that is not body
LEAST_TAKEN_BYTES = 262_144  # what a slow reader must take of its answer each time we look


def server_config(app: FastAPI, settings: ServiceSettings) -> Config:
    """How uvicorn serves `app`."""

    class Connection(PatientConnection):
        header_timeout_s = settings.header_timeout_s
        send_timeout_s = settings.send_timeout_s

    return Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        limit_concurrency=settings.max_connections,
        server_header=False,
        access_log=False,  # ours says more: `service.middleware.access_log`
        log_config=None,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )


class PatientConnection(HttpToolsProtocol):
    """One connection; closed when its client takes longer, or sends longer heads, than it may."""

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
        self._head: asyncio.TimerHandle | None = None  # until the head of a request is complete
        self._head_bytes = 0  # received since the last piece of a body
        self._sending: asyncio.TimerHandle | None = None  # while an answer waits to be taken
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_complete()
        if self._sending:
            self._sending.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_idle():  # even if this is no beginning of a request, but an empty line
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            if self._is_idle():
                self.send_400_response("The headers of this request are too long.")
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_is_complete()
        super().on_headers_complete()
        self.headers = []  # trailers must not become headers after the fact

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:  # answered early; what is still to come is of no use
            self._await_head()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._is_idle() and self.transport.get_write_buffer_size():
            self._await_reader()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.header_timeout_s, self._head_is_late)

    def _head_is_complete(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        self.transport.close()

    def _await_reader(self) -> None:
        if self._sending is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._sending = self.loop.call_later(self.send_timeout_s, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Cut off a client that took next to nothing; look again while there is more to take."""
        self._sending = None
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._unsent - unsent < min(LEAST_TAKEN_BYTES, self._unsent):
            self.transport.abort()
        elif unsent:
            self._await_reader()
