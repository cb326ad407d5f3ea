"""POST /prompt: a graph becomes a job."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest, MalformedBody
from protocol.request.request import Priority
from service.auth.api_keys import User
from service.dialects.comfyui.answers import PromptAnswer
from service.dialects.comfyui.client_files import Place, StoredFile, named_files, read_used
from service.dialects.comfyui.description import READ, WRITE, Schema, body, errors
from service.dialects.comfyui.errors import of_invalid
from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.draft import Draft
from service.dialects.comfyui.graph.errors import GraphRefused
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import MAX_BYTES, Graph, parse_graph
from service.dialects.comfyui.graph.requests import request_of
from service.dialects.comfyui.graph.resolution import Resolution, resolve_graph
from service.dialects.comfyui.prompt_body import PromptBody, parse_prompt_body
from service.dialects.comfyui.stored import NOT_KEPT, StoredOutput, StoredPrompt
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.submission import invalid_counted, parse_task, wait_for_model, webhook_target
from service.schemas.body_parser import Fields
from service.schemas.problems import seen_problem

router = APIRouter(responses=errors(*READ, *WRITE))

EXAMPLE = {
    "client_id": "8e03978e40d543e8bc936894a57f9324",
    "prompt": {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 5,
                "steps": 20,
                "cfg": 8,
                "sampler_name": "euler",
                "scheduler": "karras",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny"}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a pizza", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]},
        },
    },
}
PROPERTIES: dict[str, Schema] = {
    "prompt": {
        "type": "object",
        "description": "A graph in ComfyUI's API format: nodes by id, of the classes that "
        "/object_info lists. At most 500 nodes and 2 MB.",
    },
    "client_id": {"type": "string", "description": "The clientId of the WebSocket to tell."},
    "prompt_id": {"type": "string", "description": "An id of the client's own, such as a UUID."},
    "number": {"type": "number"},
    "front": {"type": "boolean", "description": "True: with high priority."},
    "extra_data": {"type": "object"},
    "partial_execution_targets": {"type": "array", "items": {"type": "string"}},
}


@dataclass(frozen=True)
class _Resolved:
    """A graph, the request that it stands for, and the files that this uses."""

    graph: Graph
    resolution: Resolution
    draft: Draft
    files: Mapping[Place, StoredFile]


@router.post(
    "/prompt", response_model=PromptAnswer, openapi_extra=body(EXAMPLE, True, **PROPERTIES)
)
async def comfy_prompt(request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Queue a graph. It is resolved into one request of this service; no code of it is run.

    A graph that is not valid, or that asks for what is not possible here, is refused with the node
    and its class.
    """
    try:
        async with invalid_counted(request, services):
            asked = await _read(request, services)
            await wait_for_model(request, services, services.settings.max_wait_s)
            found = await _resolved(asked, services, user)
            stored = await _queued(asked, found, request, services)
    except GraphRefused as error:
        seen_problem(request, error)
        return JSONResponse(error.body(), HTTPStatus.BAD_REQUEST)
    await run_in_threadpool(services.prompts.notify, user.client)
    answer = PromptAnswer(prompt_id=stored.prompt_id, number=stored.number)
    return JSONResponse(answer.model_dump())


async def _read(request: Request, services: Services) -> PromptBody:
    return parse_prompt_body(await read_json(request, services.decoding, MAX_BYTES))


async def _resolved(asked: PromptBody, services: Services, user: User) -> _Resolved:
    """Resolve the graph. Raises `GraphRefused`."""
    graph = parse_graph(asked.prompt, NODES)
    files = await named_files(services, user, graph)
    cards = await services.submitter.models.cards()
    offer = Offer(cards, {place: file.size for place, file in files.items()})
    resolution = resolve_graph(graph, offer, asked.targets)
    return _Resolved(graph, resolution, request_of(graph, resolution, offer), files)


async def _queued(
    asked: PromptBody, found: _Resolved, request: Request, services: Services
) -> StoredPrompt:
    """Queue the request of a graph. Its wrong fields are errors of the nodes they come from."""
    draft, user = found.draft, request.scope["user"]
    stored = await _stored(asked, found, services, user)

    async def name(job_id: str) -> None:
        await run_in_threadpool(services.prompts.name, user.client, stored.prompt_id, job_id)

    try:
        data = await to_thread.run_sync(
            read_used, services, found.files, draft.files, limiter=services.decoding
        )
        fields = {**_with_files(draft.fields, data), **_options(asked)}
        params = await parse_task(draft.task, fields, request, services)
        await services.submitter.submit(
            draft.task,
            params,
            user,
            None,
            before_queued=name,
            webhook=webhook_target(None, request, services),
            dialect_object=stored.kept(),
        )
    except MalformedBody:
        raise
    except InvalidRequest as error:
        ends = [one.node_id for one in found.resolution.outputs]
        raise of_invalid(error, draft, found.graph, ends) from error
    return stored


def _with_files(fields: Fields, files: Mapping[str, bytes]) -> Fields:
    """Return the fields with the bytes of files; those of controls stand inside their list."""
    whole: Fields = {**fields}
    controls = fields.get("controls")
    if isinstance(controls, list):
        whole["controls"] = [
            {**one, "image": files[f"controls.{i}.image"]} for i, one in enumerate(controls)
        ]
    return whole | {name: data for name, data in files.items() if "." not in name}


def _options(asked: PromptBody) -> Fields:
    """Return our fields of the options of a prompt."""
    priority = {"priority": Priority.HIGH.value} if asked.in_front else {}
    return {"previews": asked.with_previews, **priority}


async def _next(asked: PromptBody, services: Services, user: User) -> int:
    """Return the number of the next prompt; one that goes to the front is below 0."""
    number = await run_in_threadpool(services.prompts.next_number, user.client)
    return -number if asked.in_front else number


async def _stored(
    asked: PromptBody, found: _Resolved, services: Services, user: User
) -> StoredPrompt:
    """Return what is kept of a prompt."""
    number = await _next(asked, services, user) if asked.number is None else asked.number
    client_id = asked.client_id or None
    kept = {name: value for name, value in asked.extra.items() if name not in NOT_KEPT}
    return StoredPrompt(
        prompt_id=asked.prompt_id or str(uuid.uuid4()),
        number=number,
        client_id=client_id,
        graph=asked.prompt,
        extra_data=kept | ({"client_id": client_id} if client_id else {}),
        outputs=[
            StoredOutput(node_id=one.node_id, class_type=one.class_type, prefix=one.prefix)
            for one in found.resolution.outputs
        ],
        order=list(found.resolution.order),
        node_id=found.draft.node_id,
    )
