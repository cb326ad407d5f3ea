"""`darkroom api`: run the HTTP service alone."""

import argparse

from darkroom.lasting_imports import lasting_imports

HELP = "run the HTTP service alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Run the HTTP service in the foreground. It needs the same Redis (REDIS_URL) and object "
        "store (OBJECT_STORE_URL) as its workers. HOST and PORT set where it listens."
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal stops the service."""
    # Only here: the other commands need no web framework.
    with lasting_imports():
        from service.__main__ import main
    return main()
