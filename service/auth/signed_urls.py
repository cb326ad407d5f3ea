"""Signed URLs of images: whoever has one can read the image without an API key, until it expires.

The signature is an HMAC-SHA256 over the path and the time of expiry. It is in the query, which no
log of ours has.
"""

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import parse_qs

from protocol.auth.api_keys import Scope
from service.auth.api_keys import User
from service.auth.signing_keys import SigningKeys

READER = User("", None, frozenset({Scope.READ}), "signed-url")


@dataclass(frozen=True)
class UrlSigner:
    """Signs paths for `ttl_s` seconds, and verifies them."""

    keys: SigningKeys
    ttl_s: int

    def query(self, path: str) -> str:
        """Return the query that makes `path` readable: `?expires=…&signature=…`."""
        expires = int(time.time()) + self.ttl_s
        return f"?expires={expires}&signature={_signature(self.keys.all()[0], path, expires)}"

    def verifies(self, path: str, query: bytes) -> bool:
        """Return True if `query` has a signature of `path` that has not expired."""
        found = parse_qs(query.decode("latin-1"), max_num_fields=8)
        try:
            expires = int(found["expires"][0])
            given = found["signature"][0].encode()
        except (KeyError, ValueError):
            return False
        same = [
            hmac.compare_digest(given, _signature(key, path, expires).encode())
            for key in self.keys.all()
        ]
        return any(same) and time.time() < expires


def _signature(key: bytes, path: str, expires: int) -> str:
    return hmac.new(key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
