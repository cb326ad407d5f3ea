"""GET and POST /history: the client's prompts that have ended."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import NotFound, StoreUnavailable
from protocol.queue.job import TERMINAL, JobState
from service.dialects.comfyui.answers import HistoryItem, HistoryStatus
from service.dialects.comfyui.description import EMPTY, FLAG, IDS, READ, WRITE, body, errors
from service.dialects.comfyui.events import messages_of
from service.dialects.comfyui.queue import prompts_to_delete
from service.dialects.comfyui.stored import Prompt, prompt_of, prompts_of
from service.routes.deps import Services, ServicesDep, UserDep

router = APIRouter(responses=errors(*READ))

DEFAULT_ITEMS = 20  # some clients read the history ten times in a second
MAX_ITEMS = 200

MaxItems = Annotated[int | None, Query(description=f"By default {DEFAULT_ITEMS}.")]


@router.get("/history", responses=errors(400))
async def comfy_history(
    services: ServicesDep, user: UserDep, max_items: MaxItems = None, offset: int = -1
) -> dict[str, HistoryItem]:
    """Get the client's latest prompts that have ended, the oldest first."""
    skipped = max(offset, 0)
    wanted = DEFAULT_ITEMS if max_items is None else min(max(max_items, 0), MAX_ITEMS)
    if wanted == 0 or skipped + wanted > MAX_ITEMS:
        return {}
    prompts = await prompts_of(services, user, TERMINAL, skipped + wanted)
    return {one.stored.prompt_id: _item(one) for one in reversed(prompts[skipped:])}


PromptId = Annotated[str, Path(examples=["01234567-89ab-cdef-0123-456789abcdef"])]


@router.get("/history/{prompt_id}")
async def comfy_history_item(
    prompt_id: PromptId, services: ServicesDep, user: UserDep
) -> dict[str, HistoryItem]:
    """Get one prompt of the client's; the answer is empty until it has ended."""
    prompt = await prompt_of(services, user, prompt_id)
    if prompt is None or prompt.view.state not in TERMINAL:
        return {}
    return {prompt.stored.prompt_id: _item(prompt)}


@router.post(
    "/history",
    response_class=Response,
    responses=errors(*WRITE) | EMPTY,
    openapi_extra=body({"clear": True}, clear=FLAG, delete=IDS),
)
async def comfy_delete_history(request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Delete prompts of the client's that have ended, with their images: those named, or all."""
    ended = await prompts_to_delete(request, services, user, TERMINAL, MAX_ITEMS)
    await run_in_threadpool(_delete, services, ended, user.client)
    return Response()


def _delete(services: Services, prompts: list[Prompt], client: str) -> None:
    for prompt in prompts:
        try:
            services.queue.delete(prompt.job_id, client)
        except NotFound:  # named twice
            continue
    with suppress(StoreUnavailable):  # a worker deletes the objects later
        services.deleted_jobs.collect()


def _item(prompt: Prompt) -> HistoryItem:
    finished = prompt.view.state is JobState.FINISHED
    outputs = prompt.images() if finished else {}
    return HistoryItem(
        prompt=prompt.stored.item(),
        outputs=outputs,
        status=HistoryStatus(
            status_str="success" if finished else "error",
            completed=finished,
            messages=[[name, data] for name, data in messages_of(prompt)],
        ),
        meta={
            node_id: {
                "node_id": node_id,
                "display_node": node_id,
                "parent_node": None,
                "real_node_id": node_id,
            }
            for node_id in outputs
        },
    )
