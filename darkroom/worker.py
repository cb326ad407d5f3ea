"""`darkroom worker`: one worker alone."""

import argparse
import os

HELP = "run one worker alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Run one worker in the foreground: it takes jobs from Redis (REDIS_URL), draws them with "
        "DARKROOM_MODEL on DARKROOM_DEVICE and writes pictures to OBJECT_STORE_URL."
    )


def run(arguments: argparse.Namespace) -> int:
    """Work until stopped."""
    # The threads of an operator wait for each other, by default spinning for long, which beside
    # other work burns the time that the others need. So they spin for some microseconds only,
    # then sleep (measured, see DECISIONS.md). It must be said before torch loads OpenMP.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # Only here: this loads torch.
    from worker.__main__ import main

    return main()
