"""/v1/models: install a model of the hub by request, and follow it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from protocol.auth.api_keys import Scope
from protocol.errors import InvalidRequest, NotEnabled
from protocol.registry.installs import Install, InstallRequest
from protocol.request.generation_params import parse_params
from service.auth.api_keys import User
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.links import path_of
from service.schemas.body_parser import JSON_TYPE, read_fields
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import REFERENCE

SUBMIT_PROBLEMS = problem_responses(
    *ACCESS_STATUSES, *SERVER_STATUSES, 400, 408, 413, 415, 422, 429
)
PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES)
FIND_PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {"$ref": REFERENCE.format(model=InstallRequest.__name__)},
                "example": {"source": "stabilityai/sdxl-turbo", "name": "turbo"},
            }
        },
    },
}
InstallId = Annotated[
    str,
    Path(
        pattern="^[0-9a-f]{16}$",
        description="16 hexadecimal digits.",
        examples=["0123456789abcdef"],
    ),
]
router = APIRouter(prefix="/v1/models", tags=["models"])


class InstallsResponse(BaseModel):
    """The installs of the last seven days, at most 100, the latest first."""

    installs: list[Install]


@router.post(
    "",
    status_code=202,
    response_model_exclude_none=True,
    openapi_extra=BODY,
    responses=SUBMIT_PROBLEMS,
)
async def install_model(
    request: Request, response: Response, services: ServicesDep, user: UserDep
) -> Install:
    """Install a model, LoRA, embedding, ControlNet, VAE, UNet or upscaler of the hub.

    For admins, from the owners in `DARKROOM_INSTALL_OWNERS`, and only safetensors. The response
    comes at once, and a worker does the work. A whole model can be used as soon as its install
    is finished, without a restart. A request like one whose install has not ended returns that.
    """
    _require_admin(services, user)
    fields = await read_fields(request, InstallRequest, services.decoding)
    asked = parse_params(InstallRequest, fields)
    owners = services.settings.install_owners
    if asked.owner not in owners:
        raise InvalidRequest("source", asked.source, f"of one of the owners {', '.join(owners)}")
    install = await run_in_threadpool(services.installs.submit, asked)
    response.headers["Location"] = path_of(request, "get_install", install_id=install.id)
    return install


@router.get("/installs", response_model_exclude_none=True, responses=PROBLEMS)
def list_installs(services: ServicesDep, user: UserDep) -> InstallsResponse:
    """List the installs, for admins."""
    _require_admin(services, user)
    return InstallsResponse(installs=services.installs.all())


@router.get("/installs/{install_id}", response_model_exclude_none=True, responses=FIND_PROBLEMS)
def get_install(install_id: InstallId, services: ServicesDep, user: UserDep) -> Install:
    """Get the state and the progress of an install, for admins."""
    _require_admin(services, user)
    return services.installs.get(install_id)


@router.delete("/installs/{install_id}", response_model_exclude_none=True, responses=FIND_PROBLEMS)
def cancel_install(install_id: InstallId, services: ServicesDep, user: UserDep) -> Install:
    """Cancel an install, for admins. One that has ended stays as it is."""
    _require_admin(services, user)
    return services.installs.cancel(install_id)


def _require_admin(services: Services, user: User) -> None:
    user.require(Scope.ADMIN)
    if not services.settings.install_owners:
        raise NotEnabled("models are not installed by request", "DARKROOM_INSTALL_OWNERS")
