"""The client packages of Replicate's API."""

from __future__ import annotations

from tests.clients.clients import EVERY, Action, Client, ai_sdk

ALL_OF_REPLICATE = frozenset(
    {
        *(Action.LIST, Action.RUN, Action.FILE, Action.STREAM, Action.WEBHOOK),
        *(Action.CANCEL, Action.ERROR, Action.REFUSED),
    }
)
AI_SDK_OF_REPLICATE = "@ai-sdk/replicate"

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
    ai_sdk(AI_SDK_OF_REPLICATE, "node-present", "ai 7", EVERY | {Action.EDIT}),
    ai_sdk(AI_SDK_OF_REPLICATE, "node-previous", "ai 6", EVERY | {Action.EDIT}),
)
