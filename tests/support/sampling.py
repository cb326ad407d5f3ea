"""Samples of long matrices: `make test` runs some of their cases, `make test-all` all of them."""

from collections.abc import Iterable
from typing import Any

import pytest


def sample(cases: Iterable[Any], *, every: int) -> list[Any]:
    """Return the cases as parameters, with all but every so many marked as long.

    A matrix must have no side that `every` divides, so that the sample has all values of each.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if number % every == 0 else pytest.mark.long,
        )
        for number, case in enumerate(cases)
    ]
