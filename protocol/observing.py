"""Measurement of operations on other services: their duration and their errors."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with an operation, its duration in seconds, and the name of the error it ended in, if any.
Observe = Callable[[str, float, str | None], None]


@contextmanager
def observed(
    observe: Observe,
    operation: str,
    error_type: type[Exception],
    ignored: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Measure the block as one `operation`.

    An error of `error_type` is reported by name, unless it is one of `ignored`.
    """
    began, error = time.perf_counter(), None
    try:
        yield
    except error_type as raised:
        error = None if isinstance(raised, ignored) else type(raised).__name__
        raise
    finally:
        observe(operation, time.perf_counter() - began, error)
