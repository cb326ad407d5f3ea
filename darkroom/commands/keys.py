"""`darkroom keys`: create, list and revoke API keys."""

import argparse
import time

from rich.console import Console
from rich.table import Table

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.connection.redis_client import connect, server_time
from protocol.settings import Settings

HELP = "create, list and revoke API keys"
DEFAULT_SCOPES = (Scope.GENERATE, Scope.READ)


class NoSuchKey(RuntimeError):
    """No key has the id that was to be revoked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Manage API keys. They are stored in Redis (REDIS_URL) as hashes, so a key is shown only "
        "once, when it is created. A new or revoked key takes effect in all API processes within "
        "two seconds."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create a key and print it")
    create.add_argument("name", help="name of the key's user or purpose")
    create.add_argument(
        "--scopes",
        type=_scopes,
        default=frozenset(DEFAULT_SCOPES),
        metavar="SCOPE,…",
        help=f"any of {', '.join(Scope)} (default: {','.join(DEFAULT_SCOPES)})",
    )
    for limit, meaning in (
        ("requests-per-minute", "requests that generate"),
        ("pixel-steps-per-minute", "width x height x steps x n of the submitted requests"),
        ("jobs", "jobs that are queued or running at once"),
    ):
        create.add_argument(f"--{limit}", type=int, metavar="N", help=f"maximum of {meaning}")
    actions.add_parser("list", help="list the keys")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("id", help="id of the key, as listed")


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    with connect(Settings().redis_url) as redis:
        records = KeyRecords(redis)
        match arguments.action:
            case "create":
                print(_created(records, arguments, server_time(redis)))
            case "list":
                Console().print(_table(list(records.all().values())))
            case "revoke":
                if not records.revoke(arguments.id):
                    raise NoSuchKey(f"there is no key {arguments.id}")
    return 0


def _created(records: KeyRecords, arguments: argparse.Namespace, created_at: float) -> str:
    limits = KeyLimits(
        requests_per_minute=arguments.requests_per_minute,
        pixel_steps_per_minute=arguments.pixel_steps_per_minute,
        jobs=arguments.jobs,
    )
    token, key = ApiKey.create(arguments.name, arguments.scopes, limits, created_at)
    records.add(key)
    return token


def _table(keys: list[ApiKey]) -> Table:
    headings = ("id", "name", "scopes", "requests/min", "pixel-steps/min", "jobs", "created")
    table = Table(*headings, box=None, header_style="bold")
    for key in sorted(keys, key=lambda key: key.created_at):
        limits = key.limits
        table.add_row(
            key.id,
            key.name,
            ", ".join(sorted(key.scopes)),
            *map(_limit, (limits.requests_per_minute, limits.pixel_steps_per_minute, limits.jobs)),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created_at)),
        )
    return table


def _limit(limit: int | None) -> str:
    return "–" if limit is None else f"{limit:,}"


def _scopes(text: str) -> frozenset[Scope]:
    words = {word.strip() for word in text.split(",")}
    if unknown := words - set(Scope):
        raise argparse.ArgumentTypeError(f"there is no scope {', '.join(sorted(unknown))}")
    return frozenset(map(Scope, words))
