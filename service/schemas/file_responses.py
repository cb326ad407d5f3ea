"""Responses with a file: an image, or what comes with one."""

from collections.abc import Mapping

from fastapi import Request, Response

from protocol.queue.job import ExtraFile, ImageResult, JobView, Timings
from protocol.storage.object_store import ObjectStore
from service.etags import not_modified

JOB_HEADER = "Darkroom-Job"
SEED_HEADER = "Darkroom-Seed"
TIMINGS_HEADER = "Darkroom-Timings"
FINISH_REASON_HEADER = "Darkroom-Finish-Reason"
WARNINGS_HEADER = "Darkroom-Warnings"
FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # Pages of any site may show an image if they have its URL, which cannot be guessed.
    "Cross-Origin-Resource-Policy": "cross-origin",
}
CACHED = {"Cache-Control": "private, max-age=3600, immutable"}
# In the OpenAPI description.
DESCRIPTIONS = {
    WARNINGS_HEADER: {
        "description": "Warnings about the request, if there are any: a list of codes, each with "
        "the parameters field and detail (RFC 9651).",
        "schema": {
            "type": "string",
            "examples": ['mask-empty;field="mask";detail="The mask marks nothing."'],
        },
    },
    "Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}},
}
OF_ANSWERS = {
    JOB_HEADER: {
        "description": "The id of the job, if the response is an image.",
        "schema": {"type": "string"},
    },
    SEED_HEADER: {
        "description": "The seed of the image, if the response is one.",
        "schema": {"type": "integer"},
    },
    TIMINGS_HEADER: {
        "description": "Seconds spent in each phase of the job, if the response is an image: a "
        "dictionary (RFC 9651).",
        "schema": {"type": "string", "examples": ["queued=0.010, denoise=2.100, total=2.400"]},
    },
    FINISH_REASON_HEADER: {
        "description": "`finish_reason` of the image, if the response is one.",
        "schema": {"type": "string", "enum": ["success", "content_filtered"]},
    },
    **DESCRIPTIONS,
}


def file_response(
    request: Request, store: ObjectStore, job: JobView, file: ImageResult | ExtraFile, name: str
) -> Response:
    """Return a file of a finished job, with the warnings of its request in a header.

    Its key is its entity tag, because a finished job's files no longer change. `name`: without the
    ending.
    """
    headers = _headers(job, file, name) | CACHED | {"ETag": f'"{file.key}"'}
    return not_modified(request, headers) or _response(store, file, headers)


def answer_with_image(store: ObjectStore, job: JobView) -> Response:
    """Return the first image of a finished job as the answer to the request that submitted it.

    What the JSON answer says of the image is in header fields. Raises `UnknownImage`.
    """
    assert job.result
    image = job.result.images[0]
    headers = _headers(job, image, f"darkroom-{image.seed}") | {
        JOB_HEADER: job.id,
        SEED_HEADER: str(image.seed),
        TIMINGS_HEADER: _timings(job.result.timings),
        FINISH_REASON_HEADER: image.finish_reason.value,
    }
    return _response(store, image, headers)


def _headers(job: JobView, file: ImageResult | ExtraFile, name: str) -> dict[str, str]:
    disposition = f'inline; filename="{name}.{file.format}"'
    warnings = {WARNINGS_HEADER: warnings_header(job)} if job.warnings else {}
    return FILE_HEADERS | {"Content-Disposition": disposition} | warnings


def _response(
    store: ObjectStore, file: ImageResult | ExtraFile, headers: Mapping[str, str]
) -> Response:
    return Response(store.get(file.key), 200, headers, media_type=file.format.content_type)


def _timings(timings: Timings) -> str:
    """Return the timings as a dictionary of structured fields (RFC 9651)."""
    return ", ".join(f"{phase}={seconds:.3f}" for phase, seconds in timings)


def warnings_header(view: JobView) -> str:
    """Return the warnings as a list of structured fields (RFC 9651): codes with parameters."""
    return ", ".join(
        f"{warning.code};field={_quoted(warning.field)};detail={_quoted(warning.detail)}"
        for warning in view.warnings
    )


def _quoted(text: str) -> str:
    """Return a string of a structured field, which is printable ASCII."""
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
