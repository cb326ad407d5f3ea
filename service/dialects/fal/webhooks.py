"""The calls of fal's webhooks: `request_id`, `status`, and the result as `payload`."""

import json
from typing import Any

from protocol.queue.job import JobState, JobView
from protocol.queue.webhooks import Delivery
from service.dialects.fal.answers import result_of
from service.dialects.fal.errors import ending_error, fal_error
from service.routes.deps import Services
from service.schemas.problems import problem_of
from service.settings import DialectName


def fal_webhook(job: JobView, delivery: Delivery, services: Services) -> bytes:
    """Return the body of the call for the end of a request; it blocks."""
    answer: dict[str, Any] = {"request_id": job.id, "gateway_request_id": job.id}
    if job.state is JobState.FINISHED:
        client = delivery.target.client
        kept = services.dialect_jobs.read(job.id, DialectName.FAL.value, client).object
        responses = services.response_builder(delivery.target.base_url)
        result = result_of(job, kept, responses)
        answer |= {"status": "OK", "payload": result.model_dump(mode="json", exclude_none=True)}
    else:
        error = fal_error(problem_of(ending_error(job)))
        answer |= {
            "status": "ERROR",
            "error": error.message,
            "payload": error.model_dump(include={"detail"}),
        }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
