"""Check that a program can listen at its address, before it starts."""

import errno
import socket

from protocol.startup import InvalidSettings

# Errors of the host; all others are of the port.
OF_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def free_port(host: str, port: int, variables: tuple[str, str] = ("HOST", "PORT")) -> int:
    """Return a port that a program can listen on at `host`: `port`, or a free one if it is 0.

    Raises InvalidSettings, with the remedy. `variables` name the settings of host and port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()  # as the API listens
    try:
        with socket.create_server((host, port), family=family, dualstack_ipv6=both) as listener:
            found: int = listener.getsockname()[1]
            return found
    except (OSError, UnicodeError) as error:
        raise InvalidSettings(_message(host, port, variables, error)) from error


def _message(host: str, port: int, variables: tuple[str, str], error: Exception) -> str:
    reason = (getattr(error, "strerror", None) or type(error).__name__).partition(" (")[0]
    number = getattr(error, "errno", None) or 0
    of_host, of_port = variables
    if number < 0 or number in OF_HOST:  # negative: the name is not known
        return f"cannot listen on {host} ({reason}): {of_host} must be an address of this machine"
    return (
        f"cannot listen on {host} port {port} ({reason}); is Darkroom running already? To use "
        f"another port, set {of_port}, such as {of_port}={port + 1}"
    )
