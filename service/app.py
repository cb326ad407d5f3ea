"""The one place where the service is put together: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware

from protocol.catalogue import Catalogue
from protocol.presence import Presence
from protocol.queue import JobQueue
from protocol.redis_client import connect, connect_async
from protocol.store import ObjectStore
from service.bodies import body_schemas
from service.dependencies import Services
from service.generation import Generation
from service.metrics import MeasureRequests, Metrics
from service.middleware import BodyLimit, RequestId, SecurityHeaders
from service.problems import add_problem_handlers
from service.routes import generation, health, jobs, models, pages
from service.settings import ServiceSettings
from service.tokens import TokenCounters
from service.waiting import JobWatcher

TITLE = "Darkroom"
DESCRIPTION = "Pictures from latent diffusion models, by HTTP. Every error is an RFC 9457 problem."


def create_app(settings: ServiceSettings, store: ObjectStore | None = None) -> FastAPI:
    """The service, ready to be run. Redis may be away: it is reached for when it is needed.

    `store` replaces the one the settings name: a store in memory must be shared with the worker.
    """
    metrics = Metrics()
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        lifespan=_lifespan(settings, store or ObjectStore.open(settings.object_store_url), metrics),
        docs_url=None,  # ours needs no files from elsewhere
        redoc_url=None,
        middleware=[  # the first is the outermost
            Middleware(MeasureRequests, metrics=metrics),
            Middleware(RequestId),
            Middleware(SecurityHeaders),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    add_problem_handlers(app)
    for routes in (generation, jobs, models, health, pages):
        app.include_router(routes.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


def _lifespan(settings: ServiceSettings, store: ObjectStore, metrics: Metrics) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis, news = connect(settings.redis_url), connect_async(settings.redis_url)
        catalogue, presence = Catalogue(redis), Presence(redis)
        queue = JobQueue(redis, settings)
        accept = Generation(settings, catalogue, presence, TokenCounters(catalogue), store, queue)
        try:
            async with JobWatcher(news, queue, settings.poll_s) as watcher:
                app.state.services = Services(
                    settings=settings,
                    catalogue=catalogue,
                    presence=presence,
                    queue=queue,
                    store=store,
                    generation=accept,
                    watcher=watcher,
                    metrics=metrics,
                    decoding=CapacityLimiter(settings.decode_threads),
                )
                yield
        finally:
            await news.aclose()
            redis.close()

    return lifespan


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the bodies that our routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schema["components"]["schemas"].update(body_schemas())
        app.openapi_schema = schema
    return app.openapi_schema
