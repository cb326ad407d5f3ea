"""Webhooks in Replicate's form: the body is the prediction, the signature that of our own."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from protocol.auth.api_keys import Scope
from protocol.errors import UnknownJob
from protocol.queue.dialect_jobs import DialectJob, DialectObject
from protocol.queue.job import JobView
from protocol.queue.webhooks import Delivery
from service.dialects.replicate.predictions import PredictionBuilder, PredictionData
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.webhooks import WebhookSecret
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.settings import DialectName

NAME = DialectName.REPLICATE
router = APIRouter(
    prefix="/v1/webhooks",
    tags=[NAME],
    responses=problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES),
)


@router.get("/default/secret")
async def get_default_webhook_secret(services: ServicesDep, user: UserDep) -> WebhookSecret:
    """Get the secret with which the webhooks of your key are signed, as `/v1/webhooks/secret`."""
    user.require(Scope.GENERATE)
    return WebhookSecret(key=await run_in_threadpool(services.webhook_signer.secret, user.client))


def prediction_webhook(view: JobView, delivery: Delivery, services: Services) -> bytes:
    """Return the body of a call: the prediction at that moment. It blocks."""
    target = delivery.target
    try:
        job = services.dialect_jobs.read(view.id, NAME, target.client)
    except UnknownJob:  # Redis has lost it; its client is told so
        lost = DialectObject(dialect=NAME, data=vars(PredictionData("", "", {}, 0)))
        job = DialectJob(view.id, lost, None, None, None)
    prediction = PredictionBuilder(services, target.base_url).prediction(view, job)
    return prediction.model_dump_json().encode()
