"""`darkroom models`: list what is served, check and add what people bring."""

import argparse

from darkroom.commands.models import add, check, list

HELP = "list the models, check or add one"
ACTIONS = {"list": list, "check": check, "add": add}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; without an action it lists."""
    list.add_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, action in ACTIONS.items():
        action.add_arguments(actions.add_parser(name, help=action.HELP))


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked."""
    return ACTIONS[arguments.action or "list"].run(arguments)
