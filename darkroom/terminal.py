"""The standard streams: one that is closed, full or too narrow for a character ends no command."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console


class TextConsole(Console):
    """A console that prints text as it is. When its reader has gone, it is quiet: a command that
    runs for long, such as `darkroom up`, goes on."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _discard(sys.stderr if self.stderr else sys.stdout)


def open_missing_streams() -> None:
    """Open /dev/null for each standard stream that is closed, so that no file takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    # Output in an old encoding, or a file name that is not UTF-8, is escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def flushed_output() -> Iterator[None]:
    """Flush standard output at the end of the block, so that an error is seen here.

    If its reader has gone, exit silently with status 1.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        sys.exit(1)
    except OSError:
        _discard(sys.stdout)
        raise


def _discard(stream: TextIO) -> None:
    """Direct a stream to /dev/null: Python would flush it again at exit, and fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
