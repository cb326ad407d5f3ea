"""How long a program waits for what it leans on, and how often in vain."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# An operation, how many seconds it took, and the name of the error it ended in, if any.
Observe = Callable[[str, float, str | None], None]


@contextmanager
def observed(
    observe: Observe,
    operation: str,
    trouble: type[Exception],
    but: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Tell `observe` of the block as one `operation`; an error is told if `trouble`, `but` not."""
    began, error = time.perf_counter(), None
    try:
        yield
    except trouble as raised:
        error = None if isinstance(raised, but) else type(raised).__name__
        raise
    finally:
        observe(operation, time.perf_counter() - began, error)
