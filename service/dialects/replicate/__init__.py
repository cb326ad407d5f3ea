"""The dialect of Replicate's API."""

from fastapi import APIRouter

from service.dialects.dialect import Dialect
from service.dialects.replicate import files, models, routes, stream, webhooks
from service.dialects.replicate.errors import REPLICATE_ERRORS
from service.dialects.replicate.webhooks import prediction_webhook
from service.settings import DialectName

# Routes of models and files have the errors of our own API, which are the same but in streams.
PREFIXES = ("/v1/predictions", "/v1/models/*/*/predictions", "/v1/deployments")
router = APIRouter()
for part in (routes, stream, files, models, webhooks):
    router.include_router(part.router)

REPLICATE = Dialect(
    name=DialectName.REPLICATE,
    description="Replicate's API, for its clients.",
    router=router,
    errors=dict.fromkeys(PREFIXES, REPLICATE_ERRORS),
    uncounted=frozenset({"/v1/files", "/v1/predictions/*/cancel"}),
    webhook_form=prediction_webhook,
)
