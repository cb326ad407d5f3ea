"""GET /healthz, /readyz and /metrics: for those who keep the service running."""

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from protocol.errors import NotReady
from protocol.registry.presence import WorkerReport, WorkerState
from service.routes.deps import ServicesDep
from service.schemas.problems import documented

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Requests would be worked on, by these."""

    status: Literal["ready"] = "ready"
    workers: list[WorkerReport]


@router.get("/healthz")
async def healthz() -> Health:
    """Whether this process lives; says nothing of others."""
    return Health()


@router.get("/readyz", responses=documented(503))
def readyz(services: ServicesDep) -> Readiness:
    """Whether a request would be worked on now; if not, why not."""
    reports = services.presence.workers()
    if not any(report.state.serves for report in reports):
        raise NotReady(_why_not(reports))
    return Readiness(workers=reports)


@router.get("/metrics", include_in_schema=False)
def metrics(services: ServicesDep) -> Response:
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _why_not(reports: list[WorkerReport]) -> str:
    if not reports:
        return "no worker is running"
    return "; ".join(map(_in_words, reports))


def _in_words(report: WorkerReport) -> str:
    words = f"worker {report.name} is {report.state.value.replace('_', ' ')}"
    if report.state is WorkerState.LOADING and report.progress is not None:
        words += f", {report.progress:.0%} done"
    return f"{words} ({report.detail})" if report.detail else words
