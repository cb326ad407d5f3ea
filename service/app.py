"""The application: `create_app` builds every part of the service from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from protocol.auth.api_keys import KeyRecords
from protocol.connection.redis_client import connect, connect_async
from protocol.queue.idempotency import IdempotencyKeys
from protocol.queue.job_queue import JobQueue
from protocol.queue.limits import Rates
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.storage.object_store import ObjectStore
from protocol.telemetry.setup import start_tracing
from protocol.telemetry.tracing import Tracing
from service.auth.admission import Admission
from service.auth.api_keys import ApiKeyBackend
from service.images.ssrf_guard import SsrfGuard
from service.jobs.job_submitter import JobSubmitter
from service.jobs.job_watcher import JobWatcher
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.readiness import Readiness
from service.jobs.tokens import TokenCounters
from service.middleware.access_log import AccessLogMiddleware
from service.middleware.authentication import AuthenticationMiddleware
from service.middleware.body_limit import BodyLimitMiddleware
from service.middleware.errors import ErrorMiddleware
from service.middleware.headers import RequestIdMiddleware, SecurityHeadersMiddleware
from service.middleware.same_origin import SameOriginMiddleware
from service.middleware.tracing import TracingMiddleware
from service.middleware.trusted_host import TrustedHostMiddleware
from service.openapi import DESCRIPTION, TITLE, openapi_schema
from service.routes import generation, health, jobs, models, pages
from service.routes.deps import Services
from service.schemas.problems import add_problem_handlers
from service.settings import ServiceSettings
from service.telemetry.loop_lag import measured_loop_lag
from service.telemetry.metrics import Metrics
from service.telemetry.queue_stats_collector import QueueStatsCollector


def create_app(settings: ServiceSettings, store: ObjectStore | None = None) -> FastAPI:
    """Return the application. It connects to Redis on first use, so Redis may be unreachable.

    `store` replaces the store of the settings: one in memory must be shared with the worker.
    """
    metrics = Metrics()
    tracing = start_tracing("api", settings.otlp_endpoint)
    store = store or ObjectStore.open(settings.object_store_url, metrics.meters.store)
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        lifespan=_lifespan(settings, store, metrics, tracing),
        docs_url=None,  # FastAPI's page loads files from other sites; `routes.pages` has our own
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the client's Host header
        middleware=[  # the first is the outermost
            Middleware(RequestIdMiddleware),
            Middleware(AccessLogMiddleware, metrics=metrics),
            *([Middleware(TracingMiddleware, tracing=tracing)] if tracing.on else []),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ErrorMiddleware),
            Middleware(TrustedHostMiddleware, settings=settings),
            *_cors(settings),
            Middleware(SameOriginMiddleware, origins=settings.allowed_origins),
            Middleware(AuthenticationMiddleware, settings=settings),
            Middleware(BodyLimitMiddleware, settings=settings),
        ],
    )
    add_problem_handlers(app)
    for routes in (generation, jobs, models, health, pages):
        app.include_router(routes.router)
    # FastAPI's documented way to extend the description.
    app.openapi = lambda: openapi_schema(app)  # type: ignore[method-assign]
    return app


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
        decoding = CapacityLimiter(settings.decode_threads)
        submissions = MicroBatcher(queue.submit_many, "submissions")
        submitter = JobSubmitter(
            settings=settings,
            models=ModelDirectory(registry, presence, settings.default_model),
            tokens=TokenCounters(registry),
            store=store,
            queue=submissions,
            pin=queue.pin,
            idempotency=idempotency,
            tracing=tracing,
            decoding=decoding,
        )
        metrics.registry.register(queue_stats)
        try:
            async with (
                JobWatcher(async_redis, queue, settings.poll_s) as watcher,
                measured_loop_lag(metrics.loop_lag),
            ):
                app.state.services = Services(
                    settings=settings,
                    models=registry,
                    presence=presence,
                    queue=queue,
                    board=ProgressBoard(redis),
                    store=store,
                    submitter=submitter,
                    watcher=watcher,
                    readiness=Readiness(redis, registry, presence, api_keys),
                    metrics=metrics,
                    decoding=decoding,
                    api_keys=api_keys,
                    admission=Admission(Rates(redis), idempotency),
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
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                *("Authorization", "Content-Type", "Idempotency-Key", "Prefer"),
                *("X-API-Key", "X-Request-Id"),
            ],
            expose_headers=["Location", "Preference-Applied", "Retry-After", "X-Request-Id"],
        )
    ]
