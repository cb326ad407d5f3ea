"""The files of the pages for people, read once; there is no way to ask for another."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

AT = "/pages/"
TYPES = {"css": "text/css", "js": "text/javascript"}


@cache
def page_files() -> Mapping[str, bytes]:
    """What each file holds, by its name, as in playground.css."""
    folder = resources.files("service").joinpath("pages")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def media_type(name: str) -> str | None:
    """Of a script or a style; None for anything else."""
    return TYPES.get(name.rpartition(".")[2])


def part_paths() -> frozenset[str]:
    """Where the scripts and styles are found."""
    return frozenset(f"{AT}{name}" for name in page_files() if media_type(name))
