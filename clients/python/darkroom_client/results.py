"""The result of a finished job: which files it has, and the images made of them."""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom_client.answers import Answer, read_job, read_warnings, typed, word
from darkroom_client.errors import JobCancelled, JobFailed, Problem, error_of
from darkroom_client.records import (
    AsyncGeneratedImage,
    AsyncResult,
    ExtraFile,
    JobState,
    JobStatus,
    Recipe,
)

ReadRecipe = Callable[[bytes], Coroutine[Any, Any, Recipe]]


@dataclass(frozen=True)
class Listing:
    """The files of a finished job, as the server lists them."""

    answer: Answer
    images: tuple[Mapping[str, Any], ...]

    def paths(self) -> Iterator[str]:
        """Yield the path of each file: every image, each followed by its extra files."""
        for image in self.images:
            path = f"/v1/jobs/{self.answer['id']}/images/{image['index']}"
            yield path
            yield from (f"{path}/{extra['kind']}" for extra in image["extras"])

    def result(self, contents: list[bytes], read: ReadRecipe) -> AsyncResult:
        """Return the images, whose files are `contents` in the order of `paths`."""
        remaining = iter(contents)
        return AsyncResult(
            id=self.answer["id"],
            images=tuple(_image(image, remaining, read) for image in self.images),
            timings=self.answer["result"].get("timings", {}),
            warnings=read_warnings(self.answer),
        )


def read_listing(answer: Answer) -> Listing | JobStatus:
    """Return the files of a job that has finished, else its state."""
    job = read_job(answer)
    if job.state is not JobState.FINISHED or answer.get("result") is None:
        return job
    images = typed(answer["result"]["images"], list)
    return Listing(answer, tuple(_checked(image) for image in images))


def reason_of(job: JobStatus) -> JobCancelled | JobFailed | Exception:
    """Return the error of a job without a result."""
    if job.state is JobState.CANCELLED:
        return JobCancelled(
            Problem(409, "job-cancelled", detail="the job was cancelled", job_id=job.id)
        )
    if job.error is not None:
        return error_of(job.error)
    return JobFailed(Problem(500, "job-failed", detail=f"the job is {job.state}", job_id=job.id))


def _checked(image: Answer) -> Mapping[str, Any]:
    extras = typed(image.get("extras"), list, [])
    return {
        **{name: typed(image[name], int) for name in ("index", "seed", "width", "height")},
        "format": word(image["format"]),
        "flagged": image.get("finish_reason") == "content_filtered",
        "extras": [{name: word(extra[name]) for name in ("kind", "format")} for extra in extras],
    }


def _image(
    image: Mapping[str, Any], contents: Iterator[bytes], read: ReadRecipe
) -> AsyncGeneratedImage:
    content = next(contents)
    extras = [ExtraFile(**extra, content=next(contents)) for extra in image["extras"]]
    return AsyncGeneratedImage(
        **{**image, "extras": {extra.kind: extra for extra in extras}}, content=content, read=read
    )
