"""Records that a client returns."""

from __future__ import annotations

import io
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from darkroom_client.errors import Problem

if TYPE_CHECKING:
    from PIL.Image import Image

ImageT = TypeVar("ImageT", bound="ImageFile")


class JobState(StrEnum):
    """The states of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Warning:
    """A remark on a request that was carried out, but may not be what was meant."""

    code: str
    detail: str
    field: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """The state of a job at a moment.

    `step` of `steps` denoising steps are done; in the phase "load", so many percent of the model
    are loaded. `position` jobs are ahead of it in the queue, which take `eta_s` seconds. `preview`
    is a small JPEG of the first unfinished image, with an event that has a new one; `previews` of a
    job of several images has one of each image by its index, if there is a new one.
    """

    id: str
    state: JobState
    step: int = 0
    steps: int = 0
    phase: str | None = None
    position: int | None = None
    eta_s: float | None = None
    preview: bytes | None = None
    previews: Mapping[int, bytes] = field(default_factory=dict)
    error: Problem | None = None
    warnings: tuple[Warning, ...] = ()
    model: str | None = None
    task: str | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class ExtraFile:
    """A file that comes with an image: its depth, or its sound."""

    kind: str
    format: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class ImageFile:
    """An image file of a job.

    `seed` generates exactly this image, with n = 1. `flagged`: the model's safety checker has
    flagged it. `extras` are its extra files by their kind: "depth" or "sound".
    """

    index: int
    seed: int
    width: int
    height: int
    format: str
    content: bytes = field(repr=False)
    flagged: bool = False
    extras: Mapping[str, ExtraFile] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the file as it is, whatever the ending of the path."""
        Path(path).write_bytes(self.content)

    def pil(self) -> Image:
        """Return the image decoded by Pillow. Raises ImportError without Pillow."""
        from PIL import Image

        return Image.open(io.BytesIO(self.content))


@dataclass(frozen=True)
class Recipe:
    """The recipe in an image file.

    `request` has the fields of the task that generates the image again, without the files that
    `needs` names. `source` is the program that wrote it; None if the file has no recipe.
    """

    source: str | None
    task: str | None
    request: Mapping[str, Any] | None
    needs: tuple[str, ...]
    parameters: Mapping[str, Any]
    texts: Mapping[str, str]
    digital_source_type: str | None = None
    content_credentials: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GeneratedImage(ImageFile):
    """An image file that a `Client` has fetched. `read` reads the recipe in a file."""

    read: Callable[[bytes], Recipe] = field(kw_only=True, repr=False, compare=False)

    def recipe(self) -> Recipe:
        """Ask the server for the recipe in the file: what to send for the same image.

        Examples:
            >>> heart = client.generate("red heart", steps=4, seed=7).image
            >>> recipe = heart.recipe()
            >>> recipe.task, recipe.request["seed"]
            ('txt2img', 7)
        """
        return self.read(self.content)


@dataclass(frozen=True)
class AsyncGeneratedImage(ImageFile):
    """An image file that an `AsyncClient` has fetched. `read` reads the recipe in a file."""

    read: Callable[[bytes], Coroutine[Any, Any, Recipe]] = field(
        kw_only=True, repr=False, compare=False
    )

    async def recipe(self) -> Recipe:
        """Ask the server for the recipe in the file: what to send for the same image."""
        return await self.read(self.content)


@dataclass(frozen=True)
class ResultOf(Generic[ImageT]):
    """The images of a job, the seconds that each phase took, and warnings about the request."""

    id: str
    images: tuple[ImageT, ...]
    timings: Mapping[str, float]
    warnings: tuple[Warning, ...] = ()

    @property
    def image(self) -> ImageT:
        """Return the first image."""
        return self.images[0]


class Result(ResultOf[GeneratedImage]):
    """The images of a job of a `Client`."""


class AsyncResult(ResultOf[AsyncGeneratedImage]):
    """The images of a job of an `AsyncClient`."""


@dataclass(frozen=True)
class Model:
    """A model of the server; `card` has all that is known of it, as in GET /v1/models.

    `loading` is the progress of a worker that loads it, from 0 to 1; `trouble` the reason for which
    the last one could not.
    """

    name: str
    aliases: tuple[str, ...]
    tasks: tuple[str, ...]
    default_width: int
    default_height: int
    default_steps: int
    default_sampler: str
    ready: bool
    on_demand: bool
    loading: float | None
    trouble: str | None
    card: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Choice:
    """A sampler or schedule, its usual title, and the models that have it."""

    name: str
    title: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Samplers:
    """The samplers and the schedules of a server."""

    samplers: tuple[Choice, ...]
    schedules: tuple[Choice, ...]


@dataclass(frozen=True)
class BatchStatus:
    """A batch: how many of its jobs are in each state."""

    id: str
    count: int
    states: Mapping[JobState, int]
