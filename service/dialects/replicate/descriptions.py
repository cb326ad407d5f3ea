"""The bodies and answers of Replicate's routes in the OpenAPI description."""

from typing import Any

from service.dialects.replicate.requests import PredictionRequest, VersionRequest
from service.routes.models import OWNER
from service.schemas.body_parser import FORM_TYPE, JSON_TYPE
from service.schemas.examples import JOB
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import BINARY, REFERENCE, parameters, without_defaults

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

BASE = "https://images.example.org"
URL = f"{BASE}/v1/predictions/{JOB}"
INPUT: Schema = {"prompt": "a slice of pizza", "seed": 7}
PREDICTION_EXAMPLE: Schema = {
    "id": JOB,
    "model": f"{OWNER}/emoji",
    "version": "5f0c" * 16,
    "input": INPUT,
    "output": [f"{BASE}/v1/jobs/{JOB}/images/0.png"],
    "logs": "  0%|          | 0/1\n100%|##########| 1/1\n",
    "error": None,
    "status": "succeeded",
    "source": "api",
    "data_removed": False,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:00.1Z",
    "completed_at": "2026-01-31T12:00:02Z",
    "metrics": {"predict_time": 1.8, "total_time": 2.0, "image_count": 1},
    "urls": {"get": URL, "cancel": f"{URL}/cancel", "stream": f"{URL}/stream"},
}
FILE_EXAMPLE: Schema = {
    "id": JOB,
    "name": "cat.png",
    "content_type": "image/png",
    "size": 77,
    "etag": "0f" * 32,
    "checksums": {"sha256": "0f" * 32},
    "metadata": {},
    "created_at": "2026-01-31T12:00:00Z",
    "expires_at": "2026-02-01T12:00:00Z",
    "urls": {"get": f"{BASE}/v1/files/{JOB}/content.png"},
}
STREAM_EXAMPLE = f"""event: logs
id: {JOB}:0
data:   0%|          | 0/1

event: output
id: {JOB}:1
data: {BASE}/v1/jobs/{JOB}/images/0.png

event: done
id: {JOB}:2
data: {{}}

"""
NOT_FOUND = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422)


def _json(description: str, example: Schema) -> Schema:
    return {"description": description, "content": {JSON_TYPE: {"example": example}}}


PAGE_EXAMPLE: Schema = {"previous": None, "next": None, "results": [PREDICTION_EXAMPLE]}
PREDICTION: Responses = {200: _json("The prediction.", PREDICTION_EXAMPLE), **NOT_FOUND}
PREDICTION_PAGE: Responses = {
    200: _json("A page of predictions.", PAGE_EXAMPLE),
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 422),
}
FILE: Responses = {200: _json("The file.", FILE_EXAMPLE), **NOT_FOUND}
FILES: Responses = {
    200: _json("The files.", {"previous": None, "next": None, "results": [FILE_EXAMPLE]}),
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES),
}
DELETED: Responses = {204: {"description": "The file is deleted."}, **NOT_FOUND}
UPLOADED: Responses = {
    201: _json("The file.", FILE_EXAMPLE),
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 400, 408, 413, 415, 422, 429),
}
STREAM: Responses = {
    200: {
        "description": "The events `logs`, `output`, `error` and `done`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
    },
    **NOT_FOUND,
}


def _created() -> Responses:
    answer = _json("The prediction; `starting`, if it has not ended.", PREDICTION_EXAMPLE)
    statuses = (400, 404, 408, 409, 410, 413, 415, 422, 429)
    return {201: answer, **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, *statuses)}


def _body(kind: type[PredictionRequest], example: Schema) -> Schema:
    schema = without_defaults(kind.model_json_schema(ref_template=REFERENCE))
    content = {JSON_TYPE: {"schema": schema, "example": example}}
    body = {"requestBody": {"required": True, "content": content}}
    return parameters("Prefer", "IdempotencyKey") | body


CREATED = _created()
VERSION_BODY = _body(VersionRequest, {"version": f"{OWNER}/tiny", "input": INPUT})
MODEL_BODY = _body(PredictionRequest, {"input": INPUT})
FILE_BODY: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            FORM_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["content"],
                    "properties": {
                        "content": {**BINARY, "description": "A PNG, JPEG, WebP or AVIF file."},
                        "metadata": {"type": "string", "description": "A JSON object."},
                    },
                }
            }
        },
    }
}
