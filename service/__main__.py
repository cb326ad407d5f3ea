"""`python -m service`: read the settings, serve until stopped."""

import sys

from uvicorn import Server

from protocol.auth.api_keys import KeyRecords
from protocol.connection.redis_client import connect
from protocol.telemetry.logs import start_logging
from service.app import create_app
from service.auth.api_keys import check_door
from service.http_protocol import server_config
from service.settings import ServiceSettings


def main() -> None:
    """Raises `NoKeys` rather than standing open where others can reach it."""
    settings = ServiceSettings()
    start_logging(settings)
    with connect(settings.redis_url) as redis:
        check_door(settings, KeyRecords(redis))
    server = Server(server_config(create_app(settings), settings))
    server.run()
    if not server.started:
        sys.exit(3)  # as uvicorn's own command does: the port is taken, or the like


if __name__ == "__main__":
    main()
