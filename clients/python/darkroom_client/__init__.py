"""A client of Darkroom: images from latent diffusion models, by HTTP.

    from darkroom_client import Client

    with Client("http://127.0.0.1:8000") as client:
        result = client.generate("red heart", steps=20)
        result.image.save("heart.png")

`AsyncClient` has the same methods for asyncio.
"""

from darkroom_client.async_client import AsyncClient
from darkroom_client.client import Batch, Client, Job
from darkroom_client.errors import (
    BadRequest,
    Conflict,
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    Gone,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobLost,
    LimitReached,
    NotFound,
    Problem,
    ProblemError,
    QueueFull,
    RateLimited,
    ServerError,
    ServerUnreachable,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownJob,
    UnknownModel,
)
from darkroom_client.fields import Box, Control, Fields, ImageInput, Lora, Task, TaskFields
from darkroom_client.jobs import AsyncBatch, AsyncJob
from darkroom_client.records import (
    AsyncGeneratedImage,
    AsyncResult,
    BatchStatus,
    ExtraFile,
    GeneratedImage,
    ImageFile,
    JobState,
    JobStatus,
    Model,
    Recipe,
    Result,
    Samplers,
    Warning,
)

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncGeneratedImage",
    "AsyncJob",
    "AsyncResult",
    "BadRequest",
    "Batch",
    "BatchStatus",
    "Box",
    "Client",
    "Conflict",
    "Control",
    "DarkroomError",
    "DeadlineExceeded",
    "ExtraFile",
    "Fields",
    "Forbidden",
    "GeneratedImage",
    "Gone",
    "ImageFile",
    "ImageInput",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobLost",
    "JobState",
    "JobStatus",
    "LimitReached",
    "Lora",
    "Model",
    "NotFound",
    "Problem",
    "ProblemError",
    "QueueFull",
    "RateLimited",
    "Recipe",
    "Result",
    "Samplers",
    "ServerError",
    "ServerUnreachable",
    "Task",
    "TaskFields",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownJob",
    "UnknownModel",
    "Warning",
]
