"""Parts of the OpenAPI description that dialects share: their errors, and fields of ours."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from protocol.errors import DarkroomError
from protocol.request.tasks import Task
from service.dialects.diffusion_fields import ALIASES, OWN, SAMPLERS
from service.schemas.body_parser import JSON_TYPE
from service.schemas.error_format import ErrorFormat
from service.schemas.problem_responses import CAUSES, HEADERS
from service.schemas.problems import problem_of
from service.schemas.request_bodies import REFERENCE, without_defaults
from service.schemas.requests import REQUESTS

Schema = dict[str, Any]

SAMPLER = "A sampler, or a schedule, by our name, AUTOMATIC1111's or diffusers'."


def error_responses(
    form: ErrorFormat,
    model: type[BaseModel],
    errors: Iterable[DarkroomError],
    causes: Mapping[int, str],
) -> dict[int | str, Schema]:
    """Return the descriptions of a dialect's errors, by status, each with one as an example.

    `causes` are the causes of statuses that have others than in our API.
    """
    problems = {form.status(problem): problem for problem in map(problem_of, errors)}
    return {
        status: {
            "model": model,
            "description": causes.get(status, CAUSES[status]),
            "headers": HEADERS.get(status, {}),
            "content": {JSON_TYPE: {"example": form.body(problems[status])}},
        }
        for status in sorted(problems)
    }


def diffusion_properties(task: Task) -> Schema:
    """Return the schemas of the fields that `diffusion_fields` reads."""
    own = without_defaults(REQUESTS[task].model_json_schema(ref_template=REFERENCE))["properties"]
    return {
        **{name: own[name] for name in OWN},
        **{name: {**own[field], "description": f"As {field}."} for name, field in ALIASES.items()},
        **{name: {"type": "string", "description": SAMPLER} for name in SAMPLERS},
        "lora": {"type": "object", "description": "One of `loras`: its name and scale."},
    }
