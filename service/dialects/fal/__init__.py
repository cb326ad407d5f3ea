"""The dialect of fal: fal.run, its queue, and its browser-proxy protocol."""

from fastapi import APIRouter

from service.dialects.dialect import Dialect
from service.dialects.fal import proxy, queue_routes, run_routes
from service.dialects.fal.errors import FAL_ERRORS
from service.dialects.fal.webhooks import fal_webhook
from service.settings import DialectName

router = APIRouter()
for part in (run_routes, queue_routes, proxy):
    router.include_router(part.router)

FAL = Dialect(
    name=DialectName.FAL,
    description="fal's API, for its clients.",
    router=router,
    errors=dict.fromkeys(("/fal", "/api/fal"), FAL_ERRORS),
    webhook_form=fal_webhook,
)
