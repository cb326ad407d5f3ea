"""The application: `create_app` builds every part of the service from the settings."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from protocol.auth.api_keys import KeyRecords
from protocol.auth.signing_secret import SigningSecret
from protocol.clients.files import ClientFiles, FileBounds
from protocol.clients.options import ClientOptions
from protocol.clients.prompts import ClientPrompts
from protocol.clients.tasks import ClientTasks
from protocol.connection.redis_client import connect, connect_async
from protocol.queue.batches import Batches
from protocol.queue.dialect_jobs import DialectJobs
from protocol.queue.idempotency import IdempotencyKeys
from protocol.queue.job import JobView
from protocol.queue.job_list import JobList
from protocol.queue.job_queue import JobQueue
from protocol.queue.limits import Rates
from protocol.queue.progress import ProgressBoard
from protocol.queue.webhooks import Delivery, WebhookQueue
from protocol.registry.installs import Installs
from protocol.registry.model_commands import ModelCommands
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.storage.deleted_jobs import DeletedJobs
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins
from protocol.telemetry.setup import start_tracing
from protocol.telemetry.tracing import Tracing
from service.auth.admission import Admission
from service.auth.api_keys import ApiKeyBackend
from service.auth.signed_urls import UrlSigner
from service.auth.signing_keys import SigningKeys
from service.dialects.dialect import Dialect, WebhookForm
from service.dialects.registry import DIALECTS, enabled_dialects
from service.images.decoding_memory import DecodingMemory
from service.images.input_images import InputImages
from service.images.ssrf_guard import SsrfGuard
from service.jobs.batch_submitter import BatchSubmitter
from service.jobs.job_submitter import JobSubmitter
from service.jobs.job_watcher import JobWatcher
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.readiness import Readiness
from service.jobs.tokens import TokenCounters
from service.middleware.access_log import AccessLogMiddleware
from service.middleware.authentication import AuthenticationMiddleware
from service.middleware.body_limit import BodyLimitMiddleware
from service.middleware.connection_limit import ConnectionLimitMiddleware
from service.middleware.cors import CrossOriginMiddleware
from service.middleware.error_format import ErrorFormatMiddleware
from service.middleware.errors import ErrorMiddleware
from service.middleware.forwarded import ForwardedMiddleware
from service.middleware.headers import RequestIdMiddleware, SecurityHeadersMiddleware
from service.middleware.methods import HeadMiddleware, OptionsMiddleware
from service.middleware.same_origin import SameOriginMiddleware
from service.middleware.tracing import TracingMiddleware
from service.middleware.trusted_host import TrustedHostMiddleware
from service.openapi import DESCRIPTION, TITLE, openapi_schema, operation_id
from service.routes import (
    batches,
    files,
    generation,
    health,
    installs,
    job_events,
    job_list,
    jobs,
    keys,
    models,
    pages,
    recipes,
    tokens,
    webhooks,
)
from service.routes.deps import Services
from service.routes.links import image_linker
from service.schemas.error_format import ErrorFormat
from service.schemas.file_responses import OF_ANSWERS
from service.schemas.problems import add_problem_handlers
from service.schemas.response_builder import ResponseBuilder
from service.settings import DialectName, ServiceSettings
from service.telemetry.loop_lag import measured_loop_lag
from service.telemetry.metrics import Metrics
from service.telemetry.queue_stats_collector import QueueStatsCollector
from service.webhooks.sender import Body, webhook_body, webhook_sender
from service.webhooks.signature import WebhookSigner


def create_app(settings: ServiceSettings, store: ObjectStore | None = None) -> FastAPI:
    """Return the application. It connects to Redis on first use, so Redis may be unreachable.

    `store` replaces the store of the settings: one in memory must be shared with the worker.
    """
    metrics = Metrics()
    tracing = start_tracing("api", settings.otlp_endpoint)
    dialects = enabled_dialects(settings)
    store = store or ObjectStore.open(settings.object_store_url, metrics.meters.store)
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        generate_unique_id_function=operation_id,
        lifespan=_lifespan(settings, store, metrics, tracing),
        openapi_url=None,  # `routes.pages` has it, and the pages: FastAPI's load files of others
        redirect_slashes=False,  # a redirect would repeat the client's Host header
        middleware=[  # the first is the outermost
            Middleware(ForwardedMiddleware, settings=settings),
            Middleware(ErrorFormatMiddleware, formats=_error_formats(dialects)),
            Middleware(RequestIdMiddleware),
            Middleware(AccessLogMiddleware, metrics=metrics),
            *([Middleware(TracingMiddleware, tracing=tracing)] if tracing.on else []),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ErrorMiddleware),
            Middleware(TrustedHostMiddleware, settings=settings),
            *_cors(settings),
            Middleware(ConnectionLimitMiddleware, limit=settings.max_connections),
            Middleware(SameOriginMiddleware, settings=settings),
            Middleware(OptionsMiddleware),
            Middleware(
                AuthenticationMiddleware,
                settings=settings,
                uncounted=frozenset({tokens.PATH}).union(*(each.uncounted for each in dialects)),
            ),
            Middleware(BodyLimitMiddleware, settings=settings),
            Middleware(HeadMiddleware),
        ],
    )
    add_problem_handlers(app)
    app.router.default = _not_found
    app.router.routes.extend(_routes(*(dialect.name for dialect in dialects)))
    # FastAPI's documented way to extend the description.
    app.openapi = lambda: openapi_schema(app, settings, dialects)  # type: ignore[method-assign]
    return app


@cache
def _routes(*dialects: DialectName) -> list[BaseRoute]:
    """Return all routes. FastAPI takes 0.1 s to resolve them, so applications share them."""
    router = APIRouter(generate_unique_id_function=operation_id)
    for routes in (
        *(generation, recipes, batches, job_list, jobs, job_events, files, webhooks),
        *(models, tokens, installs, keys, health, pages),
    ):
        router.include_router(routes.router)
    for name in dialects:
        router.include_router(DIALECTS[name].router)
    return router.routes


def _lifespan(
    settings: ServiceSettings, store: ObjectStore, metrics: Metrics, tracing: Tracing
) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = connect(settings.redis_url, metrics.meters.redis)
        async_redis = connect_async(settings.redis_url)
        queue_stats = QueueStatsCollector(settings.redis_url)
        registry, presence = ModelRegistry(redis), Presence(redis)
        queue = JobQueue(redis, settings)
        idempotency = IdempotencyKeys(redis)
        api_keys = ApiKeyBackend(KeyRecords(redis), settings)
        directory = ModelDirectory(registry, presence, settings.default_model)
        decoding = CapacityLimiter(settings.decode_threads)
        signing_keys = SigningKeys(settings.signing_secrets, SigningSecret(redis).read)
        url_signer = UrlSigner(signing_keys, settings.signed_url_ttl_s)
        webhook_signer = WebhookSigner(signing_keys)
        board, batches = ProgressBoard(redis), Batches(redis, settings)
        link = image_linker(app, url_signer if settings.keys_needed else None)

        def responses(base_url: str) -> ResponseBuilder:
            return ResponseBuilder(store, board, settings.image_url_ttl_s, link(base_url))

        def own_body(job: JobView, delivery: Delivery) -> bytes:
            return webhook_body(job, responses(delivery.target.base_url))

        submissions = MicroBatcher(queue.submit_many, "submissions")
        submitter = JobSubmitter(
            settings=settings,
            models=directory,
            tokens=TokenCounters(registry),
            store=store,
            queue=submissions,
            pin=queue.pin,
            idempotency=idempotency,
            tracing=tracing,
            decoding=decoding,
            images=InputImages(
                DecodingMemory(settings.max_decoding_bytes), settings.max_image_pixels
            ),
        )
        metrics.registry.register(queue_stats)
        try:
            async with (
                JobWatcher(async_redis, queue, settings.poll_s) as watcher,
                webhook_sender(
                    settings,
                    WebhookQueue(redis),
                    watcher,
                    webhook_signer,
                    {"": own_body} | _webhook_bodies(app),
                    metrics,
                ),
                measured_loop_lag(metrics.loop_lag),
            ):
                app.state.services = Services(
                    settings=settings,
                    models=registry,
                    presence=presence,
                    queue=queue,
                    job_list=JobList(redis),
                    deleted_jobs=DeletedJobs(redis, store, Pins(redis, settings)),
                    board=board,
                    store=store,
                    directory=directory,
                    submitter=submitter,
                    watcher=watcher,
                    readiness=Readiness(redis, registry, presence, api_keys),
                    metrics=metrics,
                    decoding=decoding,
                    api_keys=api_keys,
                    admission=Admission(Rates(redis), idempotency),
                    url_signer=url_signer,
                    response_builder=responses,
                    webhook_signer=webhook_signer,
                    model_commands=ModelCommands(redis),
                    installs=Installs(redis),
                    batches=batches,
                    batch_submitter=BatchSubmitter(submitter, batches),
                    options=ClientOptions(redis, async_redis),
                    tasks=ClientTasks(redis, async_redis),
                    prompts=ClientPrompts(redis),
                    dialect_jobs=DialectJobs(redis),
                    files=ClientFiles(redis, store, _file_bounds(settings)),
                    ssrf_guard=_ssrf_guard(settings),
                )
                yield
        finally:
            metrics.registry.unregister(queue_stats)
            queue_stats.close()
            submissions.close()
            await async_redis.aclose()
            redis.close()
            tracing.close()

    return lifespan


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse an unknown path; Starlette would refuse a WebSocket with an empty 403."""
    raise HTTPException(404)


def _error_formats(dialects: Iterable[Dialect]) -> dict[str, ErrorFormat]:
    return {prefix: form for dialect in dialects for prefix, form in dialect.errors.items()}


def _webhook_bodies(app: FastAPI) -> dict[str, Body]:
    """Return the forms of webhooks of all dialects: jobs of one that was turned off still end."""

    def bound(form: WebhookForm) -> Body:
        return lambda job, delivery: form(job, delivery, app.state.services)

    forms = {name: dialect.webhook_form for name, dialect in DIALECTS.items()}
    return {name: bound(form) for name, form in forms.items() if form is not None}


def _file_bounds(settings: ServiceSettings) -> FileBounds:
    return FileBounds(
        settings.file_ttl_s, settings.max_files_per_client, settings.max_file_bytes_per_client
    )


def _ssrf_guard(settings: ServiceSettings) -> SsrfGuard | None:
    if not settings.image_urls:
        return None
    return SsrfGuard(settings.max_body_bytes, settings.fetch_timeout_s)


def _cors(settings: ServiceSettings) -> list[Middleware]:
    """Allow pages of the configured sites to use the API; by default there are none."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CrossOriginMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=[
                *("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"),
                *("Last-Event-ID", "Prefer"),
                *("X-API-Key", "X-Request-Id", "X-Fal-Target-URL", "X-Fal-Queue-Priority"),
            ],
            expose_headers=[
                *("Seed", "Finish-Reason"),  # of Stability's API
                *("ETag", "Location", "Preference-Applied", "Retry-After", "X-Request-Id"),
                *("X-Fal-Request-Id", *OF_ANSWERS),
            ],
        )
    ]
