"""Dependencies of the routes. `create_app` stores `Services` in `app.state.services`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Path
from starlette.requests import HTTPConnection

from protocol.clients.files import ClientFiles
from protocol.clients.options import ClientOptions
from protocol.clients.prompts import ClientPrompts
from protocol.clients.tasks import ClientTasks
from protocol.queue.batches import Batches
from protocol.queue.dialect_jobs import DialectJobs
from protocol.queue.job import JobView
from protocol.queue.job_list import JobList
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import ProgressBoard
from protocol.registry.installs import Installs
from protocol.registry.model_commands import ModelCommands
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.object_keys import JOB_ID
from protocol.storage.deleted_jobs import DeletedJobs
from protocol.storage.object_store import ObjectStore
from service.auth.admission import Admission
from service.auth.api_keys import ApiKeyBackend, User
from service.auth.signed_urls import UrlSigner
from service.images.ssrf_guard import SsrfGuard
from service.jobs.batch_submitter import BatchSubmitter
from service.jobs.job_submitter import JobSubmitter
from service.jobs.job_watcher import JobWatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.readiness import Readiness
from service.routes.links import base_url_of
from service.schemas.examples import JOB
from service.schemas.response_builder import ResponseBuilder
from service.settings import ServiceSettings
from service.telemetry.metrics import Metrics
from service.webhooks.signature import WebhookSigner


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
    job_list: JobList
    deleted_jobs: DeletedJobs
    board: ProgressBoard
    store: ObjectStore
    directory: ModelDirectory
    submitter: JobSubmitter
    watcher: JobWatcher
    readiness: Readiness
    metrics: Metrics
    decoding: CapacityLimiter
    api_keys: ApiKeyBackend
    admission: Admission
    response_builder: Callable[[str], ResponseBuilder]  # from the base of its URLs
    webhook_signer: WebhookSigner
    model_commands: ModelCommands
    installs: Installs
    batches: Batches
    batch_submitter: BatchSubmitter
    options: ClientOptions
    tasks: ClientTasks
    prompts: ClientPrompts
    files: ClientFiles
    dialect_jobs: DialectJobs
    ssrf_guard: SsrfGuard | None
    url_signer: UrlSigner

    def cancels_on_disconnect(self, asked: bool | None) -> bool:
        """Return True if the job of a client that disconnects is cancelled."""
        return self.settings.cancel_on_disconnect if asked is None else asked


# All of these are coroutines, because FastAPI calls plain functions in a thread.


async def _services(connection: HTTPConnection) -> Services:
    services: Services = connection.app.state.services
    return services


async def _user(connection: HTTPConnection) -> User:
    user: User = connection.scope["user"]
    return user


ServicesDep = Annotated[Services, Depends(_services)]
UserDep = Annotated[User, Depends(_user)]
JobIdPath = Annotated[
    str, Path(pattern=JOB_ID, description="32 hexadecimal digits.", examples=[JOB])
]


async def _job(job_id: JobIdPath, services: ServicesDep, user: UserDep) -> JobView:
    return await services.watcher.view(job_id, user.owner)


async def _responses(connection: HTTPConnection, services: ServicesDep) -> ResponseBuilder:
    return response_builder(connection, services)


def response_builder(request: HTTPConnection, services: Services) -> ResponseBuilder:
    """Return the builder of responses to `request`."""
    base_url = base_url_of(request, services.settings.public_url)
    return services.response_builder(base_url)


JobDep = Annotated[JobView, Depends(_job)]
ResponsesDep = Annotated[ResponseBuilder, Depends(_responses)]
