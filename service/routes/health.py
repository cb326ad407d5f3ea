"""GET /healthz, /readyz and /metrics, for monitoring."""

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from protocol.registry.presence import WorkerReport
from service.middleware.public_paths import METRICS
from service.routes.deps import ServicesDep
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses

router = APIRouter(tags=["health"])

TEXT = {"type": "string"}


class Health(BaseModel):
    """The response of a live process."""

    status: Literal["ok"] = "ok"


class ReadyResponse(BaseModel):
    """The live workers, of which at least one would run a job now."""

    status: Literal["ready"] = "ready"
    workers: list[WorkerReport]


@router.get("/healthz", responses=problem_responses(500))
async def healthz() -> Health:
    """Report that this process is alive; Redis and the workers are not checked."""
    return Health()


@router.get("/readyz", responses=problem_responses(*SERVER_STATUSES))
async def readyz(services: ServicesDep) -> ReadyResponse:
    """Report whether a request would be accepted and run now; if not, the reason.

    A full queue, which is answered by 429, is no reason.
    """
    return ReadyResponse(workers=await services.readiness.check())


@router.get(
    METRICS,
    response_class=Response,
    responses={
        200: {"description": "The metrics.", "content": {CONTENT_TYPE_LATEST: {"schema": TEXT}}},
        **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES),
    },
)
def metrics(services: ServicesDep) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)
