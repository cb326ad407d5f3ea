"""`darkroom worker`: one worker alone."""

import argparse

HELP = "run one worker alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Run one worker in the foreground: it takes jobs from Redis (REDIS_URL), draws them with "
        "DARKROOM_MODEL on DARKROOM_DEVICE and writes pictures to OBJECT_STORE_URL."
    )


def run(arguments: argparse.Namespace) -> int:
    """Work until stopped."""
    # Only here: this loads torch.
    from worker.__main__ import main

    return main()
