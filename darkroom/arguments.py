"""Types of command line arguments. A value that cannot be used is an error of argparse."""

import math
from argparse import ArgumentTypeError
from pathlib import Path

from protocol.setting_types import check_http_url, expanded, masked


def text(value: str) -> str:
    """Return a text; refuse one that is not UTF-8, which cannot be sent."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError("it is not text in UTF-8") from None
    return value


def number(value: str) -> float:
    """Return a finite number."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ArgumentTypeError(f"{value} is not a finite number")
    return found


def server(value: str) -> str:
    """Return the URL of a server."""
    try:
        return check_http_url(text(value))
    except ValueError as error:
        raise ArgumentTypeError(f"{masked(value)} must be {error}") from None


def folder(value: str) -> Path:
    """Return the path of a folder, with `~` replaced."""
    if not value:
        raise ArgumentTypeError("the name of a folder is empty")
    return expanded(Path(value))
