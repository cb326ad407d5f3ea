"""Entry point of the command line. Each command is a module with HELP, add_arguments and run."""

import argparse
import sys

from pydantic import ValidationError

from darkroom.addresses import PortTaken
from darkroom.client import Refused, ServerUnreachable
from darkroom.commands import api, generate, keys, models, up, worker
from darkroom.commands.keys import NoSuchKey
from darkroom.commands.models.add import CannotAdd
from darkroom.commands.models.check import CannotCheck
from darkroom.commands.models.list import NoSuchModel
from darkroom.processes.devices import NoDevices
from darkroom.processes.embedded_redis import EmbeddedRedisError
from darkroom.processes.process import ProgramFailed
from darkroom.processes.server_binary import NoServerBinary
from protocol.errors import DarkroomError
from protocol.registry.models_config import InvalidModelsConfig

COMMANDS = {
    "up": up,
    "api": api,
    "worker": worker,
    "generate": generate,
    "models": models,
    "keys": keys,
}

# Errors that a user can correct: printed as one sentence, without a traceback.
USER_ERRORS = (
    InvalidModelsConfig,
    CannotAdd,
    CannotCheck,
    DarkroomError,
    EmbeddedRedisError,
    NoDevices,
    NoServerBinary,
    NoSuchKey,
    NoSuchModel,
    PortTaken,
    ProgramFailed,
    Refused,
    ServerUnreachable,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = COMMANDS[arguments.command].run(arguments)
    except ValidationError as error:
        return _print_error(_settings_error(error))
    except USER_ERRORS as error:
        return _print_error(str(error))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom", description="Latent diffusion as a service: prompt in, image out."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP))
    return parser


def _settings_error(error: ValidationError) -> str:
    """List every invalid setting by the name of its environment variable."""
    details = [f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]
    return "invalid settings:\n  " + "\n  ".join(details)


def _print_error(message: str) -> int:
    print(f"darkroom: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
