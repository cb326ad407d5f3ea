"""Where the API listens, and how to call it from this machine."""

import socket

from protocol.settings import Settings

ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class PortTaken(RuntimeError):
    """The API cannot listen where it was told to."""


def server_url(settings: Settings) -> str:
    """How this machine calls a server that listens by these settings."""
    host = ANY.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def with_free_port(settings: Settings) -> Settings:
    """The settings, with a port the API can listen on: theirs, or any free one if theirs is 0.

    Raises:
        PortTaken: it cannot listen there; the message says what to do.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family) as listener:
            return settings.model_copy(update={"port": listener.getsockname()[1]})
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
            "is Darkroom running already? PORT=8001 would choose another port"
        ) from error
