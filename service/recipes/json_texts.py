"""JSON inside an image file, which may be anything."""

import json
import math
from typing import Any

MAX_MARKS = 200_000  # brackets and commas; an empty list takes thirty times its bytes in memory
Scalars = dict[str, str | int | float | bool]
MAX_INT = 2**63


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`, an empty one if it is anything else. Never raises."""
    if sum(text.count(mark) for mark in "[{,") > MAX_MARKS:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def object_in(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the object under `key`, an empty one if there is none."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def scalars(found: dict[str, Any]) -> Scalars:
    """Return the entries of an object that are text, finite numbers, true or false."""
    return {key: value for key, value in found.items() if _is_scalar(value)}


def _is_scalar(value: object) -> bool:
    match value:
        case bool() | str():
            return True
        case int():
            return abs(value) < MAX_INT
        case float():
            return math.isfinite(value)
        case _:
            return False
