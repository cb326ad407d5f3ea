"""Signatures of webhooks, in the form of Standard Webhooks (github.com/standard-webhooks).

Each client has a secret of its own, `whsec_…`, derived from the keys of the service, so none is
stored, and one client cannot sign for another.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from service.auth.signing_keys import SigningKeys

PREFIX = "whsec_"


@dataclass(frozen=True)
class WebhookSigner:
    """Signs calls with the secret of their client."""

    keys: SigningKeys

    def secret(self, client: str) -> str:
        """Return the secret with which `client` verifies the calls it gets."""
        return PREFIX + base64.b64encode(_secret(self.keys.all()[0], client)).decode()

    def headers(self, client: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers of a call; it is signed with former keys, too."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        digests = [
            hmac.digest(_secret(key, client), signed, hashlib.sha256) for key in self.keys.all()
        ]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(
                f"v1,{base64.b64encode(digest).decode()}" for digest in digests
            ),
        }


def _secret(key: bytes, client: str) -> bytes:
    return hmac.digest(key, f"webhook\n{client}".encode(), hashlib.sha256)
