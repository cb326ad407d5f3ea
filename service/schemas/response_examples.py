"""Examples of JSON responses in the OpenAPI description.

`python -m bench.docs.response_examples` records them from a service.

Those of a route that has one of its own are not here.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("response_examples.json")


@cache
def response_examples() -> dict[str, Any]:
    """Return an example by the id of its operation."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found
