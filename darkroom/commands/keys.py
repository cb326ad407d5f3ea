"""`darkroom keys`: make, list and revoke API keys."""

import argparse
import time

from rich.console import Console
from rich.table import Table

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.connection.redis_client import connect
from protocol.settings import Settings

HELP = "make, list and revoke API keys"
USUAL = (Scope.GENERATE, Scope.READ)


class NoSuchKey(RuntimeError):
    """There is no key to revoke."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "API keys are kept in Redis (REDIS_URL), as hashes: a key is shown once, when it is made. "
        "All API processes know of a new or a revoked key within two seconds."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and print it")
    create.add_argument("name", help="whom or what it is for")
    create.add_argument(
        "--scopes",
        type=_scopes,
        default=frozenset(USUAL),
        metavar="SCOPE,…",
        help=f"of {', '.join(Scope)} (default: {','.join(USUAL)})",
    )
    for limit, meaning in (
        ("requests-per-minute", "requests of any kind"),
        ("pixel-steps-per-minute", "width x height x steps x n of what is submitted"),
        ("jobs", "jobs that wait or run at once"),
    ):
        create.add_argument(f"--{limit}", type=int, metavar="N", help=f"{meaning}, at most")
    actions.add_parser("list", help="list the keys there are")
    revoke = actions.add_parser("revoke", help="make a key useless")
    revoke.add_argument("id", help="the key's id, as listed")


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked."""
    with connect(Settings().redis_url) as redis:
        records = KeyRecords(redis)
        match arguments.action:
            case "create":
                print(_created(records, arguments))
            case "list":
                Console().print(_table(list(records.all().values())))
            case "revoke":
                if not records.revoke(arguments.id):
                    raise NoSuchKey(f"there is no key {arguments.id}")
    return 0


def _created(records: KeyRecords, arguments: argparse.Namespace) -> str:
    limits = KeyLimits(
        requests_per_minute=arguments.requests_per_minute,
        pixel_steps_per_minute=arguments.pixel_steps_per_minute,
        jobs=arguments.jobs,
    )
    token, key = ApiKey.create(arguments.name, arguments.scopes, limits)
    records.add(key)
    return token


def _table(keys: list[ApiKey]) -> Table:
    headings = ("id", "name", "scopes", "requests/min", "pixel-steps/min", "jobs", "made")
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
