"""Imports of modules that stay until the process ends."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Import without garbage collection, and exempt from it what there is at the end.

    Modules are never garbage, but full collections visit all their objects: a fifth of the time in
    which the worker or the service is imported, and pauses while it serves.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
