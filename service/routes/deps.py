"""What the routes need, by name; it hangs on `app.state.services`, put there by `create_app`."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request

from protocol.auth.limits import Limits
from protocol.queue.job import JobView
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.object_keys import JOB_ID
from protocol.storage.object_store import ObjectStore
from service.auth.api_keys import ApiKeyBackend, User
from service.images.image_urls import Fetching
from service.jobs.generation import Generation
from service.jobs.job_watcher import JobWatcher
from service.schemas.responses import Answers
from service.settings import ServiceSettings
from service.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Services:
    """The parts of a running service, joined in `app.create_app`."""

    settings: ServiceSettings
    catalogue: ModelRegistry
    presence: Presence
    queue: JobQueue
    board: ProgressBoard
    store: ObjectStore
    generation: Generation
    watcher: JobWatcher
    metrics: Metrics
    decoding: CapacityLimiter
    keys: ApiKeyBackend
    limits: Limits
    fetching: Fetching


# Coroutines, all of them: plain functions would each be called in a thread.


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _visitor(request: Request) -> User:
    visitor: User = request.scope["user"]
    return visitor


ServicesDep = Annotated[Services, Depends(_services)]
VisitorDep = Annotated[User, Depends(_visitor)]
JobIdPath = Annotated[str, Path(pattern=JOB_ID, description="32 hexadecimal digits.")]


async def _job(job_id: JobIdPath, services: ServicesDep, visitor: VisitorDep) -> JobView:
    return await services.watcher.view(job_id, visitor.owner)


async def _answers(request: Request, services: ServicesDep) -> Answers:
    def link(job_id: str, index: int) -> str:
        return str(request.url_for("get_image", job_id=job_id, index=index))

    return Answers(services.store, services.board, services.settings.image_url_ttl_s, link)


JobDep = Annotated[JobView, Depends(_job)]
AnswersDep = Annotated[Answers, Depends(_answers)]
