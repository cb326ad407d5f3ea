"""Names of all environment variables, to tell a misspelled one.

Each program knows only its own settings, so the names of all are in a file, written by `make docs`.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from protocol.settings import PREFIX

FILE = Path(__file__).with_suffix(".txt")
VARIABLES = frozenset(FILE.read_text("utf-8").split())
ALIKE = 0.85  # share of the letters of two names


def misspelled(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that is no setting, but has a name like one."""
    for name in environment:
        upper = name.upper()
        if upper.startswith("DARK") and upper not in VARIABLES:
            bare = upper.removeprefix(PREFIX)
            exact = [known for known in (bare, f"{PREFIX}WORKER_{bare}") if known in VARIABLES]
            for known in exact or get_close_matches(upper, VARIABLES, 1, ALIKE):
                yield f"{name} is not a setting: is {known} meant?"
