"""/queue and /interrupt: the client's prompts that wait or run."""

from collections.abc import Collection, Iterable, Mapping

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest
from protocol.queue.job import JobState
from service.auth.api_keys import User
from service.dialects.comfyui.answers import ExecInfo, QueueAnswer, QueueStatusAnswer
from service.dialects.comfyui.description import EMPTY, FLAG, IDS, READ, WRITE, body, errors
from service.dialects.comfyui.stored import ACTIVE, MAX_ACTIVE, Prompt, prompt_of, prompts_of
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep, UserDep

router = APIRouter(responses=errors(*READ))

MAX_IDS = 200
TEXT = {"type": "string"}


@router.get("/prompt")
async def comfy_queue_status(services: ServicesDep, user: UserDep) -> QueueStatusAnswer:
    """Get the number of the client's prompts that wait or run."""
    active = await prompts_of(services, user, ACTIVE, MAX_ACTIVE)
    return QueueStatusAnswer(exec_info=ExecInfo(queue_remaining=len(active)))


@router.get("/queue")
async def comfy_queue(services: ServicesDep, user: UserDep) -> QueueAnswer:
    """List the client's prompts that run and that wait, the oldest first."""
    active = reversed(await prompts_of(services, user, ACTIVE, MAX_ACTIVE))
    items = [(one.view.state, one.stored.item()) for one in active]
    return QueueAnswer(
        queue_running=[item for state, item in items if state is JobState.RUNNING],
        queue_pending=[item for state, item in items if state is JobState.QUEUED],
    )


@router.post(
    "/queue",
    response_class=Response,
    responses=errors(*WRITE) | EMPTY,
    openapi_extra=body({"clear": True}, clear=FLAG, delete=IDS),
)
async def comfy_delete_queued(request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Take prompts of the client's that wait out of the queue: those named, or all."""
    waiting = await prompts_to_delete(request, services, user, (JobState.QUEUED,), MAX_ACTIVE)
    await _cancel(waiting, services, user)
    return Response()


@router.post(
    "/interrupt",
    response_class=Response,
    responses=errors(*WRITE) | EMPTY,
    openapi_extra=body({}, prompt_id=TEXT),
)
async def comfy_interrupt(request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Stop the client's prompts that run, or the one named if it runs."""
    asked = await read_json(request, services.decoding)
    match asked.get("prompt_id"):
        case str() as prompt_id if prompt_id:
            prompts = [await prompt_of(services, user, prompt_id)]
        case _:
            prompts = [*await prompts_of(services, user, (JobState.RUNNING,), MAX_ACTIVE)]
    running = [one for one in prompts if one and one.view.state is JobState.RUNNING]
    await _cancel(running, services, user)
    return Response()


async def prompts_to_delete(
    request: Request, services: Services, user: User, states: Collection[JobState], most: int
) -> list[Prompt]:
    """Return the client's prompts in these states that a body names, or all if it says `clear`.

    Raises `InvalidRequest` for too many names.
    """
    asked = await read_json(request, services.decoding)
    prompts = [await prompt_of(services, user, one) for one in _named(asked)]
    if asked.get("clear") is True:
        prompts += await prompts_of(services, user, states, most)
    return [one for one in prompts if one is not None and one.view.state in states]


def _named(asked: Mapping[str, object]) -> list[str]:
    ids = asked.get("delete")
    if not isinstance(ids, list):
        return []
    if len(ids) > MAX_IDS:
        raise InvalidRequest("delete", f"a list of {len(ids)}", f"at most {MAX_IDS}", "too-many")
    return [one for one in ids if isinstance(one, str)]


async def _cancel(prompts: Iterable[Prompt], services: Services, user: User) -> None:
    for prompt in prompts:
        await run_in_threadpool(services.queue.cancel, prompt.job_id, user.client)
    await run_in_threadpool(services.prompts.notify, user.client)
