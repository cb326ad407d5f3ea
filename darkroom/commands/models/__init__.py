"""`darkroom models`: list the served models, check and add checkpoints."""

import argparse

from darkroom.commands.models import add, check, list

HELP = "list, check or add models"
ACTIONS = {"list": list, "check": check, "add": add}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; the default action is `list`."""
    list.add_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, action in ACTIONS.items():
        action.add_arguments(actions.add_parser(name, help=action.HELP))


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return ACTIONS[arguments.action or "list"].run(arguments)
