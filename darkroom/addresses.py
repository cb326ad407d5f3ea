"""Addresses of the API: where it listens, and its URL on this machine."""

import socket

from protocol.settings import Settings

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class PortTaken(RuntimeError):
    """The API cannot listen at the configured address."""


def server_url(settings: Settings) -> str:
    """Return the URL, on this machine, of a server with these settings."""
    host = LOOPBACK_OF.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def with_free_port(settings: Settings) -> Settings:
    """Return the settings with a port the API can listen on: their own, or a free one if it is 0.

    Raises:
        PortTaken: the API cannot listen there; the message has the remedy.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family) as listener:
            return settings.model_copy(update={"port": listener.getsockname()[1]})
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
            "is Darkroom running already? To use another port, set PORT, such as PORT=8001"
        ) from error
