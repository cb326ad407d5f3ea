"""Client packages in processes of their own, which do what a test asks for.

A process reads actions as lines of JSON and answers each with a line: what its client package
returned, or the exception that it raised.
"""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.imports import ROOT

ANSWER_WITHIN_S = 300.0


@dataclass(frozen=True)
class ClientError(Exception):
    """An exception that a client package raised; `kinds` are its class and the bases of that."""

    kinds: tuple[str, ...]
    message: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    type: str | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return f"{self.kinds[0]}: {self.message}"


class ClientProcess:
    """A process with a client package."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __call__(self, action: str, **arguments: object) -> Any:
        """Return the answer to an action.

        Raises:
            ClientError: the client package raised an exception.
        """
        assert self._process.stdin
        line = json.dumps({"action": action, "arguments": arguments})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            error = answer["error"]
            raise ClientError(**{**error, "kinds": tuple(error["kinds"])})
        return answer["value"]

    def _answer(self) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_WITHIN_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"no answer: {self._errors.read()[-4000:]}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()
