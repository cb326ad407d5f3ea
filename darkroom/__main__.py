"""Entry point of the command line. Each command is a module with HELP, add_arguments and run."""

import argparse
import os
import sys
from functools import partial
from typing import NoReturn

from darkroom.commands import api, certificate, generate, keys, models, up, worker
from darkroom.commands.certificate import CannotCertify
from darkroom.commands.generated_files import CannotWrite
from darkroom.commands.keys import NoSuchKey, RedisUnreachable
from darkroom.commands.models.add import CannotAdd
from darkroom.commands.models.check import CannotCheck
from darkroom.processes.devices import NoDevices
from darkroom.processes.embedded_redis import EmbeddedRedisError
from darkroom.processes.process import ProgramFailed
from darkroom.processes.server_binary import NoServerBinary
from darkroom.terminal import flushed_output, open_missing_streams
from darkroom_client import DarkroomError as ClientError
from protocol.errors import DarkroomError
from protocol.startup import INVALID, exit_status, one_line
from protocol.variables import misspelled

COMMANDS = {
    "up": up,
    "api": api,
    "worker": worker,
    "generate": generate,
    "models": models,
    "keys": keys,
    "certificate": certificate,
}

STARTS_PROGRAMS = ("up", "api", "worker")  # the programs log misspelled variables

# Errors that a user can correct: printed as one sentence, without a traceback.
USER_ERRORS = (
    CannotAdd,
    CannotCertify,
    CannotCheck,
    CannotWrite,
    ClientError,
    DarkroomError,
    EmbeddedRedisError,
    NoDevices,
    NoServerBinary,
    NoSuchKey,
    OSError,
    ProgramFailed,
    RedisUnreachable,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    open_missing_streams()
    return exit_status("darkroom", partial(_run, argv), USER_ERRORS)


def _run(argv: list[str] | None) -> int:
    with flushed_output():
        arguments = _parser().parse_args(argv)
        if arguments.command not in STARTS_PROGRAMS:
            for sentence in misspelled(os.environ):
                print(f"darkroom: warning: {sentence}", file=sys.stderr)
        status: int = COMMANDS[arguments.command].run(arguments)
        return status


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(INVALID, f"{self.prog}: {one_line(message)} (see --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="darkroom", description="Latent diffusion as a service: prompt in, image out."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP))
    return parser


if __name__ == "__main__":
    sys.exit(main())
