"""Schedule of the test files: their processes of pytest-xdist, and their order."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

MOST_PROCESSES = 4
# Folders whose files share a stack or a server that takes long to start.
TOGETHER = ("tests/clients/",)


class FileSchedule(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Run the tests of a file, or of a folder of `TOGETHER`, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def process_count() -> int:
    """Return two more than there are processors, because many tests wait for other programs."""
    return min((os.cpu_count() or 1) + 2, MOST_PROCESSES)


def files_from_own_start(folders: Sequence[str], process: str, processes: int) -> list[str]:
    """Return all test files for the process named as in "gw1", beginning at another for each.

    Every process imports all of them, and a file is compiled for pytest by the first that does.
    """
    files = sorted(str(path) for folder in folders for path in Path(folder).rglob("test_*.py"))
    start = len(files) * int(process.removeprefix("gw")) // processes
    return files[start:] + files[:start]


def scope_of(nodeid: str) -> str:
    """Return the file of a test, or its folder if the files there run together."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in an order of their files that is the same in every process.

    Slow files and folders are first, so that none is left at the end. The order of the others is
    that of a checksum, which mixes tests that compute with tests that wait.
    """
    early = {scope_of(item.nodeid) for item in items if item.get_closest_marker("early")}
    early.update(TOGETHER)

    def key(item: pytest.Item) -> tuple[bool, int, str]:
        scope = scope_of(item.nodeid)
        return scope not in early, zlib.crc32(scope.encode()), item.nodeid.partition("::")[0]

    return sorted(items, key=key)  # stable
