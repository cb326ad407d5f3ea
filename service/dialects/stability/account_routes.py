"""GET /v1/engines/list, /v1/user/account and /v1/user/balance."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from protocol.queue.limits import Rate, Window
from protocol.request.tasks import Task
from protocol.request.upscaling import FILTERS
from service.auth.api_keys import User
from service.dialects.stability.descriptions import READ_RESPONSES
from service.dialects.stability.engines import networks_of
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.models import served_models
from service.settings import DialectName

TASKS = frozenset({Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT, Task.OUTPAINT, Task.UPSCALE})
UNLIMITED = 1_000_000  # credits of a key without a limit of images: no answer can say "any number"

router = APIRouter(prefix="/v1", tags=[DialectName.STABILITY], responses=READ_RESPONSES)


class Engine(BaseModel):
    """A model or an upscaler."""

    id: str
    name: str
    description: str
    type: Literal["PICTURE"] = "PICTURE"


class Organization(BaseModel):
    """The service itself: keys belong to no organization."""

    id: str = "darkroom"
    name: str = "Darkroom"
    role: Literal["MEMBER"] = "MEMBER"
    is_default: bool = True


class Account(BaseModel):
    """The API key of the request."""

    id: str = Field(description="The id of the key; it is no secret.")
    email: str = Field(default="", description="Empty: keys have no address.")
    organizations: list[Organization] = [Organization()]


class Balance(BaseModel):
    """The images that the key may still generate today; 1000000 if it has no such limit."""

    credits: float


@router.get("/engines/list")
async def stability_engines(services: ServicesDep) -> list[Engine]:
    """List the models, the default first, and the upscalers."""
    models = await run_in_threadpool(served_models, services)
    engines = [
        Engine(id=one.name, name=one.name, description=one.description or f"Family: {one.family}")
        for one in models
        if TASKS.intersection(one.tasks)
    ]
    upscalers = [*await networks_of(services.submitter.models), *FILTERS]
    return engines + [Engine(id=one, name=one, description="An upscaler") for one in upscalers]


@router.get("/user/account")
async def stability_account(user: UserDep) -> Account:
    """Get the id of the API key."""
    return Account(id=user.client or "local")


@router.get("/user/balance")
async def stability_balance(services: ServicesDep, user: UserDep) -> Balance:
    """Get the number of images that the key may still generate today. Nothing is charged."""
    return Balance(credits=await run_in_threadpool(_credits, services, user))


def _credits(services: Services, user: User) -> float:
    most = user.limits.images_per_day
    if most is None:
        return UNLIMITED
    return services.admission.left(user, Rate("images", most, Window.DAY))
