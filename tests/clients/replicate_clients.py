"""The client packages of Replicate's API."""

from __future__ import annotations

from tests.clients.clients import AI_SDK, EVERY, Action, Client

ALL_OF_REPLICATE = frozenset(
    {
        *(Action.LIST, Action.RUN, Action.FILE, Action.STREAM, Action.WEBHOOK),
        *(Action.CANCEL, Action.ERROR, Action.REFUSED),
    }
)


def _replicate_ai_sdk(environment: str, generation: str) -> Client:
    return Client(
        name=f"@ai-sdk/replicate ({generation})",
        environment=environment,
        script="ai_sdk",
        packages=("@ai-sdk/replicate", "ai"),
        actions=EVERY | {Action.EDIT},
        errors=AI_SDK,
        arguments=("@ai-sdk/replicate",),
    )


REPLICATE_CLIENTS = (
    Client(
        name="replicate (Python)",
        environment="python-present",
        script="replicate_images",
        packages=("replicate",),
        actions=ALL_OF_REPLICATE,
        errors={"bad": "ReplicateError", "refused": "ReplicateError"},
    ),
    Client(
        name="replicate (npm)",
        environment="node-present",
        script="replicate_images",
        packages=("replicate",),
        actions=ALL_OF_REPLICATE,
        errors={"bad": "ApiError", "refused": "ApiError"},
    ),
    _replicate_ai_sdk("node-present", "ai 7"),
    _replicate_ai_sdk("node-previous", "ai 6"),
)
