"""Stability's answers: images in JSON, or the file of one image with header fields."""

import base64
from collections.abc import Callable
from typing import Literal

from fastapi import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from protocol.errors import JobLost, UnknownImage
from protocol.queue.job import FinishReason, JobView
from protocol.request.object_keys import OutputFormat
from service.routes.deps import Services
from service.routes.submission import GeneratedImage, read_images
from service.schemas.accepted import JSON_TYPE, Accepted
from service.schemas.file_responses import WARNINGS_HEADER, answer_with_image, warnings_header
from service.schemas.response_builder import check_base64, json_response

SEED_HEADER, FINISH_REASON_HEADER = "Seed", "Finish-Reason"

Reason = Literal["SUCCESS", "CONTENT_FILTERED"]
ToAnswer = Callable[[list[GeneratedImage]], BaseModel]


class Artifact(BaseModel):
    """An image of version 1."""

    base64: str = Field(json_schema_extra={"contentEncoding": "base64"})
    seed: int
    finishReason: Reason = Field(
        description="CONTENT_FILTERED, if the model's safety checker has flagged it."
    )


class V1Images(BaseModel):
    """The images of an answer of version 1, in order of their seeds."""

    artifacts: list[Artifact]


class V2Image(BaseModel):
    """The image of an answer of version 2."""

    image: str = Field(json_schema_extra={"contentEncoding": "base64"})
    seed: int
    finish_reason: Reason = Field(
        description="CONTENT_FILTERED, if the model's safety checker has flagged it."
    )


class V2Started(BaseModel):
    """A generation whose result is asked for by its id."""

    id: str


class V2InProgress(V2Started):
    """A generation that has not finished."""

    status: Literal["in-progress"] = "in-progress"


def accepted_by_v2(headers: Headers) -> Accepted:
    """Return what a client of version 2 accepts: an image, unless it names JSON.

    Raises `NotAcceptable`.
    """
    text = ",".join(headers.getlist("accept")).lower()
    if JSON_TYPE in text or "image/" in text:
        return Accepted.from_headers(headers)
    return Accepted(tuple(OutputFormat), text)


def artifacts(images: list[GeneratedImage]) -> V1Images:
    """Return images in the form of version 1."""
    return V1Images(
        artifacts=[
            Artifact(
                base64=_base64(image),
                seed=image.record.seed,
                finishReason=_reason(image.record.finish_reason),
            )
            for image in images
        ]
    )


def v2_image(images: list[GeneratedImage]) -> V2Image:
    """Return the first image in the form of version 2."""
    image = images[0]
    return V2Image(
        image=_base64(image),
        seed=image.record.seed,
        finish_reason=_reason(image.record.finish_reason),
    )


async def answer(
    job: JobView, accepted: Accepted, to_answer: ToAnswer, services: Services
) -> Response:
    """Return the images of a finished job, or the file of its first one.

    Raises `JobLost` if one is gone, and `InvalidRequest` if they are too large for JSON.
    """
    assert job.result
    if not accepted.formats:
        check_base64(job.result.images)
        headers = {WARNINGS_HEADER: warnings_header(job)} if job.warnings else {}
        return json_response(to_answer(await read_images(services, job)), headers=headers)
    try:
        response = await run_in_threadpool(answer_with_image, services.store, job)
    except UnknownImage as missing:
        raise JobLost(job.id) from missing
    image = job.result.images[0]
    response.headers[SEED_HEADER] = str(image.seed)
    response.headers[FINISH_REASON_HEADER] = _reason(image.finish_reason)
    return response


def _base64(image: GeneratedImage) -> str:
    return base64.b64encode(image.data).decode()


def _reason(reason: FinishReason) -> Reason:
    return "SUCCESS" if reason is FinishReason.SUCCESS else "CONTENT_FILTERED"
