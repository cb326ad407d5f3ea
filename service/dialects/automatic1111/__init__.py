"""The dialect of AUTOMATIC1111's web UI: `/sdapi/v1`, and what its clients call beside it."""

from fastapi import APIRouter

from service.dialects.automatic1111 import (
    config,
    extras,
    generation,
    listing,
    options_routes,
    png_info,
    progress,
)
from service.dialects.automatic1111.controlnet import routes as controlnet_routes
from service.dialects.automatic1111.errors import AUTOMATIC1111_ERRORS
from service.dialects.automatic1111.timed_route import PREFIX
from service.dialects.dialect import Dialect
from service.settings import DialectName

OUTSIDE = ("/controlnet", "/internal", "/config")  # its paths outside the prefix


PARTS = (
    *(generation.router, options_routes.router, progress.router, progress.internal),
    *(listing.router, extras.router, png_info.router, controlnet_routes.router, config.router),
)


def _router() -> APIRouter:
    router = APIRouter(tags=[DialectName.AUTOMATIC1111])
    for part in PARTS:
        router.include_router(part)
    return router


AUTOMATIC1111 = Dialect(
    name=DialectName.AUTOMATIC1111,
    description="AUTOMATIC1111's web UI, for its clients.",
    router=_router(),
    errors=dict.fromkeys(("/sdapi", *OUTSIDE), AUTOMATIC1111_ERRORS),
    uncounted=frozenset(
        {
            *(
                f"{PREFIX}/{name}"
                for name in (
                    *("options", "interrupt", "skip"),
                    *("refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings"),
                    *("unload-checkpoint", "reload-checkpoint"),
                )
            ),
            "/internal/progress",
        }
    ),
)
