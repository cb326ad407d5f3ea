"""The keys that sign URLs and webhooks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.errors import QueueUnavailable

MAX_AGE_S = 30.0  # after which the shared secret is read again


@dataclass
class SigningKeys:
    """The keys: the first signs, all of them verify, so that a secret can be replaced.

    `secrets` are those of the settings. If there is none, `shared` reads the one of all API
    processes, and blocks.
    """

    secrets: tuple[str, ...]
    shared: Callable[[], bytes]
    _known: bytes | None = field(default=None, init=False)
    _read_at: float = field(default=0.0, init=False)

    def all(self) -> tuple[bytes, ...]:
        """Return the keys. Raises `QueueUnavailable` if the shared one is not yet known."""
        if self.secrets:
            return tuple(secret.encode() for secret in self.secrets)
        if self._known is None or time.monotonic() - self._read_at > MAX_AGE_S:
            try:
                self._known = self.shared()
            except QueueUnavailable:
                if self._known is None:
                    raise
            self._read_at = time.monotonic()
        return (self._known,)
