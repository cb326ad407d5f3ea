"""Entry point of the HTTP service: `python -m service`."""

import sys

from uvicorn import Server

from protocol.auth.api_keys import KeyRecords
from protocol.connection.redis_client import connect
from protocol.telemetry.logs import start_logging
from service.app import create_app
from service.auth.api_keys import check_keys_exist
from service.http_protocol import server_config
from service.settings import ServiceSettings


def main() -> None:
    """Read the settings and serve until stopped.

    Raises `NoApiKeys` if clients on other machines could use the service without a key.
    """
    settings = ServiceSettings()
    start_logging(settings)
    with connect(settings.redis_url) as redis:
        check_keys_exist(settings, KeyRecords(redis))
    server = Server(server_config(create_app(settings), settings))
    server.run()
    if not server.started:
        sys.exit(3)  # as uvicorn's own command does, for example if the port is taken


if __name__ == "__main__":
    main()
