"""Addresses of the API: where it listens, and its URL on this machine."""

from protocol.listening import free_port
from protocol.settings import Settings

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def server_url(settings: Settings) -> str:
    """Return the URL, on this machine, of a server with these settings."""
    host = LOOPBACK_OF.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def with_free_port(settings: Settings) -> Settings:
    """Return the settings with a port the API can listen on: their own, or a free one if it is 0.

    Raises InvalidSettings: the API cannot listen there; the message has the remedy.
    """
    return settings.model_copy(update={"port": free_port(settings.host, settings.port)})
