"""model_index.json: the components of a model, each with its package and class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def component_class(index: Mapping[str, Any], name: str) -> str | None:
    """Return the class that model_index.json names for a component; None for an absent one.

    Files write an absent component as [null, null], as null, or not at all.
    """
    entry = index.get(name)
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
        return entry[1]
    return None
