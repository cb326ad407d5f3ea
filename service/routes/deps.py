"""Dependencies of the routes. `create_app` stores `Services` in `app.state.services`."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request

from protocol.queue.job import JobView
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.object_keys import JOB_ID
from protocol.storage.object_store import ObjectStore
from service.auth.admission import Admission
from service.auth.api_keys import ApiKeyBackend, User
from service.images.ssrf_guard import SsrfGuard
from service.jobs.job_submitter import JobSubmitter
from service.jobs.job_watcher import JobWatcher
from service.jobs.readiness import Readiness
from service.schemas.response_builder import ResponseBuilder
from service.settings import ServiceSettings
from service.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Services:
    """The parts of a running service, built in `app.create_app`.

    `ssrf_guard` is None if the service takes no images by URL. `decoding` limits the threads that
    decode images.
    """

    settings: ServiceSettings
    models: ModelRegistry
    presence: Presence
    queue: JobQueue
    board: ProgressBoard
    store: ObjectStore
    submitter: JobSubmitter
    watcher: JobWatcher
    readiness: Readiness
    metrics: Metrics
    decoding: CapacityLimiter
    api_keys: ApiKeyBackend
    admission: Admission
    ssrf_guard: SsrfGuard | None


# All of these are coroutines, because FastAPI calls plain functions in a thread.


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _user(request: Request) -> User:
    user: User = request.scope["user"]
    return user


ServicesDep = Annotated[Services, Depends(_services)]
UserDep = Annotated[User, Depends(_user)]
JobIdPath = Annotated[str, Path(pattern=JOB_ID, description="32 hexadecimal digits.")]


async def _job(job_id: JobIdPath, services: ServicesDep, user: UserDep) -> JobView:
    return await services.watcher.view(job_id, user.owner)


async def _responses(request: Request, services: ServicesDep) -> ResponseBuilder:
    def link(job_id: str, index: int) -> str:
        return str(request.url_for("get_image", job_id=job_id, index=index))

    return ResponseBuilder(services.store, services.board, services.settings.image_url_ttl_s, link)


JobDep = Annotated[JobView, Depends(_job)]
ResponsesDep = Annotated[ResponseBuilder, Depends(_responses)]
