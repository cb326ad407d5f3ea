"""The answers of AUTOMATIC1111's API, for the OpenAPI description and as they are built."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class WebuiAnswer(BaseModel):
    """An answer of this API; a key without a value is null."""

    model_config = ConfigDict(protected_namespaces=())


class WebuiError(WebuiAnswer):
    """An error. `detail` says it; a refused key has nothing else."""

    detail: str = Field(examples=["Script 'ADetailer' not found"])
    error: str = ""
    body: str = ""
    errors: str = ""


class GenerationAnswer(WebuiAnswer):
    """Images in base64, the request as it was understood, and what is known of the images."""

    images: list[str]
    parameters: dict[str, Any]
    info: str = Field(
        description="A JSON object as text: seeds, prompts, size, model and infotexts."
    )


class ExtraImageAnswer(WebuiAnswer):
    """An upscaled image in base64."""

    html_info: str
    image: str


class ExtraImagesAnswer(WebuiAnswer):
    """Upscaled images in base64, in the order of the request."""

    html_info: str
    images: list[str]


class PngInfoAnswer(WebuiAnswer):
    """The infotext of an image, its other texts, and the parameters in the infotext."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class ProgressState(WebuiAnswer):
    """The state of the client's current task; `job` is empty and `job_count` 0 if there is none."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressAnswer(WebuiAnswer):
    """The progress of the client's current task, from 0 to 1."""

    progress: float = 0.0
    eta_relative: float = 0.0
    state: ProgressState = Field(default_factory=ProgressState)
    current_image: str | None = Field(default=None, description="A preview in base64.")
    textinfo: str | None = None
    current_task: str | None = None


class TaskProgressAnswer(WebuiAnswer):
    """The progress of one task."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = Field(default=None, description="A preview as data URI.")
    id_live_preview: int | None = None
    textinfo: str | None = None


class PendingTasksAnswer(WebuiAnswer):
    """The ids of the client's tasks that wait."""

    size: int
    tasks: list[str]


class SamplerItem(WebuiAnswer):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(WebuiAnswer):
    """A schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


class UpscalerItem(WebuiAnswer):
    """An upscaler; the first is None, which changes nothing."""

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float


class NameItem(WebuiAnswer):
    """A name."""

    name: str


class ModelItem(WebuiAnswer):
    """A model. Its hashes are those of its file; one that is a folder has none. Paths are names."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class LoraItem(WebuiAnswer):
    """A LoRA."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any] = {}


class EmbeddingItem(WebuiAnswer):
    """A textual inversion embedding; `shape` is the width of its vectors, if it is known."""

    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    shape: int | None = None
    vectors: int | None = None


class EmbeddingsAnswer(WebuiAnswer):
    """The embeddings by name."""

    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class ScriptsAnswer(WebuiAnswer):
    """The names of scripts."""

    txt2img: list[str]
    img2img: list[str]


class MemoryAnswer(WebuiAnswer):
    """The memory of the machine, which workers do not report."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


class ModelListAnswer(WebuiAnswer):
    """The names of ControlNets."""

    model_list: list[str]


class ModuleListAnswer(WebuiAnswer):
    """The names of preprocessors, and their parameters."""

    module_list: list[str]
    module_detail: dict[str, Any]


class ControlTypesAnswer(WebuiAnswer):
    """The kinds of ControlNets, with their preprocessors and models."""

    control_types: dict[str, dict[str, Any]]


class DetectionAnswer(WebuiAnswer):
    """Control images in base64, if there are any."""

    info: str
    images: list[str] | None = None


class ConfigAnswer(WebuiAnswer):
    """The parts of the page of AUTOMATIC1111's web UI."""

    version: str
    components: list[dict[str, Any]]
