"""The keys of what is kept for a client."""

import hashlib

from protocol.connection.keyspace import key


def client_key(kind: str, client: str) -> str:
    """Return the key in Redis of one kind of a client's data.

    `client` is the name under which its jobs are submitted, which may be of any length.
    """
    return key(kind, client_name(client))


def client_name(client: str) -> str:
    """Return the part of a key that stands for a client."""
    return hashlib.sha256(client.encode()).hexdigest()[:32]
