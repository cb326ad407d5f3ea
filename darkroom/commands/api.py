"""`darkroom api`: the HTTP service alone."""

import argparse

HELP = "run the HTTP service alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Run the HTTP service in the foreground. It needs a Redis (REDIS_URL) and an object store "
        "(OBJECT_STORE_URL) that its workers use too; HOST and PORT say where it listens."
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    # Only here: the other commands need no web framework.
    from service.__main__ import main

    main()
    return 0
