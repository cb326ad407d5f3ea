"""Patterns of paths: text in which `*` stands for one part of a path."""

import re


def prefix_pattern(prefix: str) -> re.Pattern[str]:
    """Return a pattern of the paths that begin with the parts of `prefix`."""
    return re.compile(f"{_escaped(prefix)}(/.*)?", re.DOTALL)


def path_pattern(path: str) -> re.Pattern[str]:
    """Return a pattern of the paths that are `path`."""
    return re.compile(_escaped(path))


def _escaped(path: str) -> str:
    return re.escape(path).replace(r"\*", "[^/]+")
