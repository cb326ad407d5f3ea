"""`python -m service`: read the settings, serve until stopped."""

import uvicorn

from service.app import create_app
from service.settings import ServiceSettings


def main() -> None:
    settings = ServiceSettings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )


if __name__ == "__main__":
    main()
