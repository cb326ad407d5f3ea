"""The start of a program: settings are read and checked, and errors of the operator are one line.

An error has the form `PORT is "99999", but must be at most 65535`. Passwords and keys are masked.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError

from protocol.connection import keyspace
from protocol.request.validation_errors import bound_of
from protocol.setting_types import HoldsPassword, masked, masked_url
from protocol.settings import PREFIX, Settings

INVALID, INTERRUPTED = 2, 130  # exit statuses; 130 as shells use it for SIGINT
LONGEST_VALUE = 200  # characters of a value that an error shows

S = TypeVar("S", bound=Settings)


class InvalidSettings(Exception):
    """A program cannot start or a command cannot run as it is configured; the message is a line.

    Bounds repeat parts of values, so characters that do not print are escaped here for all.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def invalid_setting(variable: str, value: object, bound: str) -> InvalidSettings:
    """Return the error of one setting: its value must be `bound`, as in "at most 7"."""
    return InvalidSettings(f"{variable} is {_shown(masked(str(value)))}, but must be {bound}")


def read_settings(kind: type[S]) -> S:
    """Read the settings from the environment. Raises InvalidSettings, which names all faults."""
    if not re.fullmatch("[!-~]{1,100}", keyspace.RQ):
        bound = "1 to 100 letters, digits and signs of ASCII, without spaces"
        raise invalid_setting("RQ_KEY_PREFIX", keyspace.RQ, bound)
    try:
        return kind()
    except ValidationError as error:
        faults = [_fault(kind, details) for details in error.errors(include_url=False)]
        raise InvalidSettings("; ".join(faults)) from None  # the cause has values that are secret
    except OSError as error:  # the defaults of some settings depend on the current folder
        raise InvalidSettings(f"the current folder cannot be used: {error.strerror}") from error


def exit_status(
    program: str,
    main: Callable[[], int | None],
    user_errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run `main` and return the exit status of the process.

    InvalidSettings ends it with status 2, one of `user_errors` with 1; both print one line.
    """
    try:
        return main() or 0
    except InvalidSettings as error:
        print(f"{program}: {error}", file=sys.stderr)
        return INVALID
    except user_errors as error:
        print(f"{program}: {one_line(_text(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def check_writable_folder(variable: str, folder: Path, longest_name: str = "") -> None:
    """Raise InvalidSettings unless a file can be created in `folder`, which is created if missing.

    `longest_name` is the longest name of a file to come.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=f"{longest_name}#"):
            pass
    except OSError as error:
        bound = f"a folder in which files can be created ({_reason(error)})"
        raise invalid_setting(variable, folder, bound) from error


def check_readable_folder(variable: str, folder: Path) -> None:
    """Raise InvalidSettings if `folder` exists, but is no folder that can be read."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        bound = f"a folder that can be read ({_reason(error)})"
        raise invalid_setting(variable, folder, bound) from error


def one_line(text: str) -> str:
    """Return the text with line breaks and other characters that do not print escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, (str(error.filename or ""), error.strerror)))
    return str(error)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _fault(kind: type[Settings], details: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a phrase with the variable, the value and the bound."""
    bound = bound_of(details)
    if not details["loc"]:  # settings that contradict each other; the phrase names them
        return bound
    name, variable = _field(kind, str(details["loc"][0]))
    field = kind.model_fields[name]
    if SecretStr in (field.annotation, *get_args(field.annotation)):
        return f"{variable} (its value is not shown) must be {bound}"
    text = str(details["input"])
    holds_password = any(isinstance(item, HoldsPassword) for item in field.metadata)
    shown = masked_url(text) if holds_password else masked(text)
    return f"{variable} is {_shown(shown)}, but must be {bound}"


def _field(kind: type[Settings], place: str) -> tuple[str, str]:
    """Return the field that pydantic's place of an error means, and its variable.

    The place is a variable with a name of its own, or else a field.
    """
    if place in kind.model_fields:
        return place, (PREFIX + place).upper()
    return next(name for name in kind.model_fields if kind.variable(name) == place), place


def _shown(text: str) -> str:
    """Return a value in quotes, shortened, on one line."""
    short = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
    return f'"{one_line(short)}"'
