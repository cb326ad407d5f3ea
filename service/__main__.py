"""Entry point of the HTTP service: `python -m service`."""

import sys

from uvicorn import Server

from protocol.auth.api_keys import KeyRecords
from protocol.connection.redis_client import connect
from protocol.listening import free_port
from protocol.startup import exit_status, read_settings
from protocol.telemetry.logs import start_logging
from service.app import create_app
from service.auth.api_keys import check_keys_exist
from service.http_protocol import server_config
from service.settings import ServiceSettings


def main() -> int:
    """Read the settings and serve until stopped; return the exit status.

    Raises `InvalidSettings`, also if others could use the service without a key.
    """
    settings = read_settings(ServiceSettings)
    start_logging(settings)
    free_port(settings.host, settings.port)
    with connect(settings.redis_url) as redis:
        check_keys_exist(settings, KeyRecords(redis))
    server = Server(server_config(create_app(settings), settings))
    server.run()
    return 0 if server.started else 3  # as uvicorn's own command does


if __name__ == "__main__":
    sys.exit(exit_status("service", main))
