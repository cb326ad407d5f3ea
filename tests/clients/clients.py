"""The client packages, and what the tests do with each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.clients.environments import LISTS, NODE_PROGRAM, PYTHON, installed
from tests.clients.processes import ClientProcess

SCRIPTS = Path(__file__).parent


class Action(StrEnum):
    """The actions of a client, in the order of a table."""

    LIST = "lists models"
    RUN = "runs and waits"
    BASE64 = "base64"
    GRAPH = "graphs"
    URL = "URLs"
    FILE = "files"
    EDIT = "edits"
    EDIT_SEVERAL = "several images"
    MASK = "mask"
    VARIATION = "variation"
    STREAM = "streams"
    WEBHOOK = "validates webhooks"
    UPSCALE = "upscales"
    READ = "reads infotext"
    QUEUE = "queue"
    PROGRESS = "progress"
    CANCEL = "cancels"
    ERROR = "error"
    REFUSED = "refused key"


@dataclass(frozen=True)
class Client:
    """A client package in one of its versions.

    `packages` are those whose versions are of interest, `errors` the exceptions by which it reports
    a bad request, a refused key and its own cancellation. `sends_extras`: it sends fields that
    OpenAI does not have, such as a seed.
    """

    name: str
    environment: str
    script: str
    packages: tuple[str, ...]
    actions: frozenset[Action]
    errors: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    sends_extras: bool = True

    @property
    def versions(self) -> tuple[str, ...]:
        """Return the versions that the lock of its environment has."""
        return tuple(_locked(self.environment, package) for package in self.packages)

    def started(self) -> ClientProcess:
        """Start its process. Raises as `installed`."""
        folder = installed(self.environment)
        if self.environment in PYTHON:
            module = f"tests.clients.python.{self.script}"
            return ClientProcess([folder / "bin" / "python", "-W", "ignore", "-m", module])
        for file in (SCRIPTS / "node").glob("*.mjs"):
            # Beside its packages, as a program of their user.
            shutil.copyfile(file, folder / file.name)
        return ClientProcess([NODE_PROGRAM, folder / f"{self.script}.mjs", *self.arguments])


def _locked(environment: str, package: str) -> str:
    if environment in PYTHON:
        text = (LISTS / environment / "requirements.txt").read_text()
        found = re.search(rf"^{re.escape(package)}==([^ ]+)", text, re.MULTILINE)
    else:
        text = (LISTS / environment / "package-lock.json").read_text()
        found = re.search(rf'"node_modules/{re.escape(package)}": {{\s*"version": "([^"]+)"', text)
    assert found, f"{environment} has no {package}"
    return found[1]


EVERY = frozenset({Action.BASE64, Action.CANCEL, Action.ERROR, Action.REFUSED})
EDITS = frozenset({Action.EDIT, Action.EDIT_SEVERAL, Action.MASK})
ALL_OF_OPENAI = EVERY | EDITS | {Action.LIST, Action.URL, Action.VARIATION, Action.STREAM}
OPENAI_ERRORS = {
    "bad": "BadRequestError",
    "refused": "AuthenticationError",
    "missing": "NotFoundError",
    "time_out": "APITimeoutError",
}
OPENAI_PYTHON = OPENAI_ERRORS | {"abort": "CancelledError"}
OPENAI_NODE = OPENAI_ERRORS | {
    "abort": "APIUserAbortError",
    "time_out": "APIConnectionTimeoutError",
}
OPENAI, COMPATIBLE = "@ai-sdk/openai", "@ai-sdk/openai-compatible"
AI_SDK = {"bad": "AI_APICallError", "refused": "AI_APICallError", "abort": "AbortError"}


def ai_sdk(
    provider: str,
    environment: str,
    generation: str,
    actions: Set[Action],
    *,
    sends_extras: bool = True,
) -> Client:
    """Return a provider of Vercel's AI SDK, by its package."""
    return Client(
        name=f"{provider} ({generation})",
        environment=environment,
        script="ai_sdk",
        packages=(provider, "ai"),
        actions=frozenset(actions),
        errors=AI_SDK,
        arguments=(provider,),
        sends_extras=sends_extras,
    )


def _openai(name: str, environment: str, errors: Mapping[str, str]) -> Client:
    return Client(
        name=name,
        environment=environment,
        script="openai_images",
        packages=("openai",),
        actions=ALL_OF_OPENAI,
        errors=errors,
    )


OPENAI_CLIENTS = (
    _openai("openai 3 (Python)", "python-present", OPENAI_PYTHON),
    _openai("openai 2 (Python)", "python-previous", OPENAI_PYTHON),
    _openai("openai 7 (npm)", "node-present", OPENAI_NODE),
    _openai("openai 6 (npm)", "node-previous", OPENAI_NODE),
    ai_sdk(OPENAI, "node-present", "ai 7", EVERY | EDITS, sends_extras=False),
    ai_sdk(OPENAI, "node-previous", "ai 6", EVERY | EDITS, sends_extras=False),
    ai_sdk(COMPATIBLE, "node-present", "ai 7", EVERY | EDITS | {Action.URL}),
    ai_sdk(COMPATIBLE, "node-previous", "ai 6", EVERY | EDITS | {Action.URL}),
    Client(
        name="litellm",
        environment="python-present",
        script="litellm_images",
        packages=("litellm", "openai"),
        actions=EVERY | EDITS | {Action.LIST, Action.URL},
        errors={
            "bad": "BadRequestError",
            "refused": "AuthenticationError",
            "time_out": "Timeout",
            "abort": "CancelledError",
        },
    ),
    Client(
        name="LangChain's DallEAPIWrapper",
        environment="python-present",
        script="langchain_images",
        packages=("langchain-community", "openai"),
        actions=frozenset({Action.URL, Action.ERROR, Action.REFUSED}),
        errors=OPENAI_PYTHON,
    ),
)

ALL_OF_WEBUI = EVERY | {
    Action.LIST,
    Action.EDIT,
    Action.MASK,
    Action.UPSCALE,
    Action.PROGRESS,
}
WEBUI_CLIENTS = (
    Client(
        name="webuiapi",
        environment="python-present",
        script="webuiapi_images",
        packages=("webuiapi",),
        actions=ALL_OF_WEBUI | {Action.READ},
        errors={"bad": "RuntimeError", "refused": "RuntimeError"},
    ),
    Client(
        name="sd-backend-client",
        environment="python-present",
        script="sd_backend_images",
        packages=("sd-backend-client",),
        actions=ALL_OF_WEBUI,
        errors={"bad": "ServerError", "refused": "AuthError", "abort": "GenerationError"},
    ),
)

STABILITY_CLIENTS = (
    Client(
        name="litellm, Stability",
        environment="python-present",
        script="litellm_stability",
        packages=("litellm",),
        actions=frozenset({Action.BASE64, Action.EDIT, Action.MASK, Action.ERROR, Action.REFUSED}),
        errors={"bad": "BadRequestError", "refused": "AuthenticationError"},
    ),
)

COMFYUI_CLIENTS = (
    Client(
        name="@saintno/comfyui-sdk",
        environment="node-present",
        script="comfyui_sdk",
        packages=("@saintno/comfyui-sdk",),
        actions=frozenset({Action.LIST, Action.GRAPH, Action.EDIT, Action.PROGRESS, Action.CANCEL}),
        errors={"bad": "EnqueueFailedError", "abort": "ExecutionInterruptedError"},
    ),
    Client(
        name="@stable-canvas/comfyui-client",
        environment="node-present",
        script="stable_canvas",
        packages=("@stable-canvas/comfyui-client",),
        actions=frozenset({Action.LIST, Action.GRAPH, Action.PROGRESS}),
        errors={"bad": "Error"},
    ),
    Client(
        name="comfy-api-simplified",
        environment="python-present",
        script="comfy_api_images",
        packages=("comfy-api-simplified",),
        actions=frozenset({Action.LIST, Action.GRAPH, Action.EDIT}),
        errors={"bad": "ComfyApiError", "refused": "ComfyApiError"},
    ),
    Client(
        name="sd-backend-client (ComfyUI)",
        environment="python-present",
        script="sd_backend_comfy_images",
        packages=("sd-backend-client",),
        actions=frozenset({Action.LIST, Action.GRAPH, Action.EDIT, Action.MASK, Action.CANCEL}),
        errors={"bad": "WorkflowValidationError", "abort": "GenerationError"},
    ),
)
