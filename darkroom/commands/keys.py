"""`darkroom keys`: create, list and revoke API keys."""

import argparse
import re
import time

from rich.table import Table

from darkroom.arguments import text
from darkroom.terminal import TextConsole
from protocol.auth.api_keys import (
    LONGEST_KEY_NAME,
    MAX_LIMIT,
    ApiKey,
    KeyLimits,
    KeyRecords,
    Scope,
)
from protocol.connection.redis_client import connect, server_time
from protocol.errors import QueueUnavailable
from protocol.setting_types import is_text, masked_url
from protocol.settings import Settings
from protocol.startup import read_settings

HELP = "create, list and revoke API keys"
DEFAULT_SCOPES = (Scope.GENERATE, Scope.READ)
LIMITS = {  # a limit of a key and its heading in the list
    "requests_per_minute": "requests/min",
    "pixel_steps_per_minute": "pixel-steps/min",
    "images_per_day": "images/day",
    "megapixel_steps_per_day": "megapixel-steps/day",
    "jobs": "jobs",
}


class RedisUnreachable(RuntimeError):
    """Redis does not answer, or refuses the password."""


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
    create.add_argument("name", type=_name, help="name of the key's user or purpose")
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
        ("images-per-day", "images of the submitted requests"),
        ("megapixel-steps-per-day", "millions of pixel-steps"),
        ("jobs", "jobs that are queued or running at once"),
    ):
        create.add_argument(f"--{limit}", type=_maximum, metavar="N", help=f"maximum of {meaning}")
    create.add_argument(
        "--webhook", type=_url, metavar="URL", help="address called when a job of the key ends"
    )
    actions.add_parser("list", help="list the keys")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("id", type=text, help="id of the key, as listed")


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    url = read_settings(Settings).redis_url
    try:
        with connect(url) as redis:
            ACTIONS[arguments.action](KeyRecords(redis), arguments, server_time(redis))
    except QueueUnavailable as error:
        raise RedisUnreachable(f"no Redis at {masked_url(url)}: {error.__cause__}") from error
    return 0


def _create(records: KeyRecords, arguments: argparse.Namespace, now: float) -> None:
    """Create a key and print it; without a reader of the output, revoke it again."""
    limits = KeyLimits(**{name: getattr(arguments, name) for name in KeyLimits.model_fields})
    token, key = ApiKey.create(arguments.name, arguments.scopes, limits, now, arguments.webhook)
    records.add(key)
    try:
        print(token, flush=True)
    except OSError:
        records.revoke(key.id)
        raise


def _list(records: KeyRecords, _arguments: argparse.Namespace, _now: float) -> None:
    TextConsole().print(_table(list(records.all().values())))


def _revoke(records: KeyRecords, arguments: argparse.Namespace, _now: float) -> None:
    if not records.revoke(arguments.id):
        raise NoSuchKey(f"there is no key {arguments.id}")


ACTIONS = {"create": _create, "list": _list, "revoke": _revoke}


def _table(keys: list[ApiKey]) -> Table:
    headings = ("id", "name", "scopes", *LIMITS.values(), "created")
    table = Table(*headings, box=None, header_style="bold")
    for key in sorted(keys, key=lambda key: key.created_at):
        limits = key.limits
        table.add_row(
            key.id,
            key.name,
            ", ".join(sorted(key.scopes)),
            *(_limit(getattr(limits, name)) for name in LIMITS),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created_at)),
        )
    return table


def _limit(limit: int | None) -> str:
    return "–" if limit is None else f"{limit:,}"


def _name(value: str) -> str:
    if not 1 <= len(value) <= LONGEST_KEY_NAME or not is_text(value):
        raise argparse.ArgumentTypeError(
            f"a name is text in UTF-8 of 1 to {LONGEST_KEY_NAME} characters"
        )
    return value


def _maximum(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{value} is not an integer from 1 to {MAX_LIMIT}")
    return int(value)


def _scopes(value: str) -> frozenset[Scope]:
    words = {word.strip() for word in value.split(",")}
    if unknown := words - set(Scope):
        raise argparse.ArgumentTypeError(f"there is no scope {', '.join(sorted(unknown))}")
    return frozenset(map(Scope, words))


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[!-~]{1,2000}", value):
        raise argparse.ArgumentTypeError(f"{value} is not an http or https URL")
    return value
