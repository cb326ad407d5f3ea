"""The client packages of fal and of Hugging Face."""

from tests.clients.clients import AI_SDK, Action, Client

OF_FAL = frozenset(
    {
        *(Action.BASE64, Action.URL, Action.EDIT, Action.MASK, Action.STREAM, Action.QUEUE),
        *(Action.PROGRESS, Action.CANCEL, Action.ERROR, Action.REFUSED),
    }
)
OF_HUGGINGFACE = frozenset(
    {Action.FILE, Action.EDIT, Action.MASK, Action.CANCEL, Action.ERROR, Action.REFUSED}
)


def _ai_sdk(environment: str, generation: str) -> Client:
    provider = "@ai-sdk/fal"
    actions = {Action.URL, Action.EDIT, Action.MASK, Action.CANCEL, Action.ERROR, Action.REFUSED}
    return Client(
        name=f"{provider} ({generation})",
        environment=environment,
        script="ai_sdk",
        packages=(provider, "ai"),
        actions=frozenset(actions),
        errors=AI_SDK,
        arguments=(provider,),
    )


FAL_CLIENTS = (
    Client(
        name="fal-client (Python)",
        environment="python-present",
        script="fal_images",
        packages=("fal-client",),
        actions=OF_FAL,
        errors={"bad": "FalClientHTTPError", "refused": "FalClientHTTPError"},
    ),
    Client(
        name="@fal-ai/client",
        environment="node-present",
        script="fal_images",
        packages=("@fal-ai/client",),
        actions=OF_FAL,
        errors={"bad": "ValidationError", "refused": "ApiError"},
    ),
    _ai_sdk("node-present", "ai 7"),
    _ai_sdk("node-previous", "ai 6"),
)
HUGGINGFACE_CLIENTS = (
    Client(
        name="huggingface_hub",
        environment="python-present",
        script="hugging_face_images",
        packages=("huggingface-hub",),
        actions=OF_HUGGINGFACE,
        errors={"bad": "HfHubHTTPError", "refused": "HfHubHTTPError", "abort": "CancelledError"},
    ),
    Client(
        name="@huggingface/inference",
        environment="node-present",
        script="hugging_face_images",
        packages=("@huggingface/inference",),
        actions=OF_HUGGINGFACE,
        errors={"bad": "ProviderApiError", "refused": "ProviderApiError", "abort": "AbortError"},
    ),
)
