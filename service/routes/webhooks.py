"""GET /v1/webhooks/secret: the secret that signs the calls to a client."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from protocol.auth.api_keys import Scope
from service.routes.deps import ServicesDep, UserDep
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses

PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES)
router = APIRouter(prefix="/v1/webhooks", tags=["jobs"], responses=PROBLEMS)


class WebhookSecret(BaseModel):
    """The secret of a client's webhooks."""

    key: str = Field(
        description="For verifying webhook-signature (Standard Webhooks).",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )


@router.get("/secret")
async def get_webhook_secret(services: ServicesDep, user: UserDep) -> WebhookSecret:
    """Get the secret with which the webhooks of your key are signed; each key has its own."""
    user.require(Scope.GENERATE)
    return WebhookSecret(key=await run_in_threadpool(services.webhook_signer.secret, user.client))
