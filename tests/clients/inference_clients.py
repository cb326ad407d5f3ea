"""The client packages of fal and of Hugging Face."""

from tests.clients.clients import Action, Client, ai_sdk

OF_FAL = frozenset(
    {
        *(Action.BASE64, Action.URL, Action.EDIT, Action.MASK, Action.STREAM, Action.QUEUE),
        *(Action.PROGRESS, Action.CANCEL, Action.ERROR, Action.REFUSED),
    }
)
OF_HUGGINGFACE = frozenset(
    {Action.FILE, Action.EDIT, Action.MASK, Action.CANCEL, Action.ERROR, Action.REFUSED}
)
OF_AI_SDK = OF_HUGGINGFACE - {Action.FILE} | {Action.URL}
AI_SDK_OF_FAL = "@ai-sdk/fal"

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
    ai_sdk(AI_SDK_OF_FAL, "node-present", "ai 7", OF_AI_SDK),
    ai_sdk(AI_SDK_OF_FAL, "node-previous", "ai 6", OF_AI_SDK),
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
