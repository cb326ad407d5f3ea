"""The one place where the service is put together: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from protocol.auth.api_keys import KeyRecords
from protocol.auth.limits import Limits
from protocol.connection.redis_client import connect, connect_async
from protocol.queue.idempotency import IdempotencyKeys
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.storage.object_store import ObjectStore
from protocol.telemetry.setup import start_tracing
from protocol.telemetry.tracing import Tracing
from service.auth.api_keys import ApiKeyBackend
from service.images.image_urls import Fetching
from service.images.ssrf_guard import Guard
from service.jobs.generation import Generation
from service.jobs.job_watcher import JobWatcher
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.tokens import TokenCounters
from service.middleware.access_log import AccessLogMiddleware
from service.middleware.authentication import AuthenticationMiddleware
from service.middleware.body_limit import BodyLimitMiddleware
from service.middleware.errors import ErrorMiddleware
from service.middleware.headers import RequestIdMiddleware, SecurityHeadersMiddleware
from service.middleware.same_origin import SameOriginMiddleware
from service.middleware.tracing import TracingMiddleware
from service.middleware.trusted_host import TrustedHostMiddleware
from service.routes import generation, health, jobs, models, pages
from service.routes.deps import Services
from service.schemas.problems import add_problem_handlers
from service.schemas.requests import body_schemas
from service.settings import ServiceSettings
from service.telemetry.loop_lag import watching_loop_lag
from service.telemetry.metrics import Metrics
from service.telemetry.queue_stats_collector import QueueStatsCollector

TITLE = "Darkroom"
DESCRIPTION = "Pictures from latent diffusion models, by HTTP. Every error is an RFC 9457 problem."


def create_app(settings: ServiceSettings, store: ObjectStore | None = None) -> FastAPI:
    """The service, ready to be run. Redis may be away: it is reached for when it is needed.

    `store` replaces the one the settings name: a store in memory must be shared with the worker.
    """
    metrics = Metrics()
    tracing = start_tracing("api", settings.otlp_endpoint)
    store = store or ObjectStore.open(settings.object_store_url, metrics.meters.store)
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        lifespan=_lifespan(settings, store, metrics, tracing),
        docs_url=None,  # ours needs no files from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the client's Host
        middleware=[  # the first is the outermost
            Middleware(RequestIdMiddleware),
            Middleware(AccessLogMiddleware, metrics=metrics),
            *([Middleware(TracingMiddleware, tracing=tracing)] if tracing.on else []),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ErrorMiddleware),
            Middleware(TrustedHostMiddleware, settings=settings),
            *_cross_origin(settings),
            Middleware(SameOriginMiddleware, origins=settings.allowed_origins),
            Middleware(AuthenticationMiddleware, settings=settings),
            Middleware(BodyLimitMiddleware, settings=settings),
        ],
    )
    add_problem_handlers(app)
    for routes in (generation, jobs, models, health, pages):
        app.include_router(routes.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


def _lifespan(
    settings: ServiceSettings, store: ObjectStore, metrics: Metrics, tracing: Tracing
) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = connect(settings.redis_url, metrics.meters.redis)
        news = connect_async(settings.redis_url)
        census = QueueStatsCollector(settings.redis_url)
        catalogue, presence = ModelRegistry(redis), Presence(redis)
        queue = JobQueue(redis, settings)
        limits = Limits(redis, queue.states)
        decoding = CapacityLimiter(settings.decode_threads)
        submissions = MicroBatcher(queue.submit_many, "submissions")
        accept = Generation(
            settings,
            ModelDirectory(catalogue, presence),
            TokenCounters(catalogue),
            store,
            submissions,
            queue.pin,
            limits,
            IdempotencyKeys(redis),
            tracing,
            decoding,
        )
        metrics.registry.register(census)
        try:
            async with (
                JobWatcher(news, queue, settings.poll_s) as watcher,
                watching_loop_lag(metrics.loop_lag),
            ):
                app.state.services = Services(
                    settings=settings,
                    catalogue=catalogue,
                    presence=presence,
                    queue=queue,
                    board=ProgressBoard(redis),
                    store=store,
                    generation=accept,
                    watcher=watcher,
                    metrics=metrics,
                    decoding=decoding,
                    keys=ApiKeyBackend(KeyRecords(redis), settings),
                    limits=limits,
                    fetching=_fetching(settings),
                )
                yield
        finally:
            metrics.registry.unregister(census)
            census.close()
            submissions.close()
            await news.aclose()
            redis.close()
            tracing.close()

    return lifespan


def _fetching(settings: ServiceSettings) -> Fetching:
    if not settings.image_urls:
        return Fetching(None)
    return Fetching(Guard(settings.max_body_bytes, settings.fetch_timeout_s))


def _cross_origin(settings: ServiceSettings) -> list[Middleware]:
    """Lets pages of the sites named use the API; by default there are none."""
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


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the bodies that our routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schema["components"]["schemas"].update(body_schemas())
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{}, {"bearer": []}, {"key": []}]  # none, where none is needed
        app.openapi_schema = schema
    return app.openapi_schema
