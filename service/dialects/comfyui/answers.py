"""The answers of ComfyUI's API, for the OpenAPI description and as they are built."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ComfyAnswer(BaseModel):
    """An answer of this API."""

    model_config = ConfigDict(protected_namespaces=())


class ComfyFault(ComfyAnswer):
    """An error, of the prompt or of an input of a node."""

    type: str = Field(examples=["prompt_outputs_failed_validation"])
    message: str
    details: str
    extra_info: dict[str, Any] = {}


class ComfyNodeErrors(ComfyAnswer):
    """The errors of a node, and the output nodes that depend on it."""

    errors: list[ComfyFault]
    dependent_outputs: list[str]
    class_type: str


class ComfyError(ComfyAnswer):
    """An error; `node_errors` has those of nodes by their ids."""

    error: ComfyFault
    node_errors: dict[str, ComfyNodeErrors]


class PromptAnswer(ComfyAnswer):
    """A queued prompt."""

    prompt_id: str
    number: float
    node_errors: dict[str, Any] = {}


class ExecInfo(ComfyAnswer):
    """The number of the client's prompts that wait or run."""

    queue_remaining: int


class QueueStatusAnswer(ComfyAnswer):
    """The state of the client's queue."""

    exec_info: ExecInfo


class QueueAnswer(ComfyAnswer):
    """The client's prompts that run and that wait, each as a list of number, id, graph, extra data
    and output nodes."""

    queue_running: list[list[Any]]
    queue_pending: list[list[Any]]


class HistoryStatus(ComfyAnswer):
    """The end of a prompt, and the messages that were sent about it."""

    status_str: str = Field(examples=["success"])
    completed: bool
    messages: list[list[Any]]


class HistoryItem(ComfyAnswer):
    """A prompt that has ended; `outputs` has the images of each output node."""

    prompt: list[Any]
    outputs: dict[str, Any]
    status: HistoryStatus
    meta: dict[str, Any]


class UploadAnswer(ComfyAnswer):
    """The name under which an uploaded file is kept."""

    name: str
    subfolder: str
    type: str


class SystemInfo(ComfyAnswer):
    """The system. What is not known here is 0 or empty."""

    os: str
    ram_total: int = 0
    ram_free: int = 0
    comfyui_version: str
    required_frontend_version: str = ""
    python_version: str = ""
    pytorch_version: str = ""
    embedded_python: bool = False
    argv: list[str] = []


class DeviceInfo(ComfyAnswer):
    """A device of a worker, which does not report its memory."""

    name: str
    type: str
    index: int
    vram_total: int = 0
    vram_free: int = 0
    torch_vram_total: int = 0
    torch_vram_free: int = 0


class SystemStatsAnswer(ComfyAnswer):
    """The system and the devices of its workers."""

    system: SystemInfo
    devices: list[DeviceInfo]


class FeaturesAnswer(ComfyAnswer):
    """The optional parts of the protocol that are spoken."""

    supports_preview_metadata: bool
    max_upload_size: int
