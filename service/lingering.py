"""Closing a connection so that its client can read the response first."""

import asyncio
from collections.abc import Callable
from typing import Any

from service.middleware.upload_pace import UploadPace


class LingeringTransport(asyncio.Transport):
    """A transport that ends its own side first if it is closed while the client is sending.

    If data arrives at a closed connection, the client is sent a reset, upon which its system
    discards what it has not read: the response. So what still arrives is discarded until the client
    ends its side, sends too slowly, or has sent `max_bytes` more (RFC 9112, section 9.6).
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        is_receiving: Callable[[], bool],
        pace: UploadPace,
        max_bytes: int,
    ) -> None:
        super().__init__()
        self.lingering = False
        self._transport = transport
        self._is_receiving = is_receiving
        self._may_linger = True
        self._pace = pace
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._discarded = 0
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close the connection, at once unless the client is sending."""
        if self.is_closing():
            return
        if not (self._may_linger and self._is_receiving()):
            self._transport.close()
            return
        self.lingering = True
        self._began = self._loop.time()
        self._transport.write_eof()
        self._transport.resume_reading()
        self._wait()

    def close_at_once(self) -> None:
        """Linger no longer: the service stops, and its event loop cannot end before."""
        self._may_linger = False
        if self.lingering:
            self._transport.close()

    def discard(self, size: int) -> None:
        """Count `size` bytes that have arrived since the connection lingers."""
        self._discarded += size
        if self._discarded > self._max_bytes:
            self._transport.close()
        else:
            self._wait()

    def stop(self) -> None:
        """Stop the timer; the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self.stop()
        waited_s = self._loop.time() - self._began
        patience_s = self._pace.patience_s(waited_s, self._discarded)
        self._timer = self._loop.call_later(max(0, patience_s), self._transport.close)

    def is_closing(self) -> bool:
        return self.lingering or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.lingering:
            self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
