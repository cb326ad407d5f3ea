"""The time limit of clients that stop reading their response."""

import asyncio

MIN_READ_BYTES = 262_144  # bytes of a response that a client must read between two checks


class UnreadResponseTimer:
    """Aborts a connection whose client reads too little within `timeout_s`."""

    def __init__(self, transport: asyncio.Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def start(self) -> None:
        """Begin to watch the client, unless it is watched already."""
        if self._timer is None:
            self._unsent_bytes = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(self._timeout_s, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Abort the connection if the client read too little; check again while data is unsent."""
        self._timer = None
        unsent = self._transport.get_write_buffer_size()
        if unsent and self._unsent_bytes - unsent < min(MIN_READ_BYTES, self._unsent_bytes):
            self._transport.abort()
        elif unsent:
            self.start()
