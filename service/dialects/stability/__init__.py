"""The dialect of Stability's REST API: version 1, and images of version 2."""

from fastapi import APIRouter

from service.dialects.dialect import Dialect
from service.dialects.stability import account_routes, v1_routes, v2_routes
from service.dialects.stability.errors import V1_ERRORS, V2_ERRORS
from service.settings import DialectName

router = APIRouter()
for part in (account_routes.router, v1_routes.router):
    router.include_router(part)
for part in (v2_routes.images, v2_routes.started, v2_routes.results):
    router.include_router(part)

STABILITY = Dialect(
    name=DialectName.STABILITY,
    description="Stability's REST API, for its clients.",
    router=router,
    errors={
        **dict.fromkeys(("/v1/generation", "/v1/engines", "/v1/user"), V1_ERRORS),
        v2_routes.PREFIX: V2_ERRORS,
    },
)
