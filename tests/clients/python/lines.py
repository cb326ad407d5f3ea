"""Serves actions as lines of JSON: see tests/clients/processes.py."""

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


def serve(actions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer each line of the input with what its action returns or raises."""
    # A client package may print: only answers go to the original output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        action = actions[request["action"]]
        try:
            value = action(**request["arguments"])
            answer = {"value": asyncio.run(value) if inspect.iscoroutine(value) else value}
        except BaseException as error:
            answer = {"error": _described(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _described(error: BaseException) -> dict[str, Any]:
    response = getattr(error, "response", None)  # where huggingface_hub keeps the status
    named = ((error, "status_code"), (response, "status_code"), (error, "status"))
    statuses = (getattr(owner, name, None) for owner, name in named)
    return {
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "message": str(error),
        "status": next((status for status in statuses if isinstance(status, int)), None),
        "code": getattr(error, "code", None),
        "param": getattr(error, "param", None),
        "type": getattr(error, "type", None),
        "request_id": getattr(error, "request_id", None),
    }
