"""GET /healthz, /readyz and /metrics, for monitoring."""

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from protocol.errors import NotReady
from protocol.registry.presence import WorkerReport, WorkerState
from service.routes.deps import ServicesDep
from service.schemas.problems import problem_responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The response of a live process."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The workers that would run a job now."""

    status: Literal["ready"] = "ready"
    workers: list[WorkerReport]


@router.get("/healthz")
async def healthz() -> Health:
    """Report that this process is alive; Redis and the workers are not checked."""
    return Health()


@router.get("/readyz", responses=problem_responses(503))
def readyz(services: ServicesDep) -> Readiness:
    """Report whether a worker would run a job now; if not, the reason."""
    reports = services.presence.workers()
    if not any(report.state.serves for report in reports):
        raise NotReady(_reason(reports))
    return Readiness(workers=reports)


@router.get("/metrics", include_in_schema=False)
def metrics(services: ServicesDep) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _reason(reports: list[WorkerReport]) -> str:
    if not reports:
        return "no worker is running"
    return "; ".join(map(_status, reports))


def _status(report: WorkerReport) -> str:
    status = f"worker {report.name} is {report.state.value.replace('_', ' ')}"
    if report.state is WorkerState.LOADING and report.progress is not None:
        status += f", {report.progress:.0%} done"
    return f"{status} ({report.detail})" if report.detail else status
