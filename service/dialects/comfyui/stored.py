"""A prompt as it is kept with its job, and the client's prompts as they are found again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, JsonValue
from starlette.concurrency import run_in_threadpool

from protocol.queue.dialect_jobs import MAX_BYTES, DialectJob, DialectObject
from protocol.queue.job import TERMINAL, JobState, JobView
from protocol.queue.job_list import JobFilter
from service.auth.api_keys import User
from service.routes.deps import Services
from service.settings import DialectName

MAX_ACTIVE = 200  # prompts of a client that wait or run, as they are listed
ACTIVE = tuple(state for state in JobState if state not in TERMINAL)
SAVED, SOCKET = "SaveImage", "SaveImageWebsocket"
# Not kept: secrets of ComfyUI's own services, and the places of nodes on its page.
NOT_KEPT = frozenset({"auth_token_comfy_org", "api_key_comfy_org", "extra_pnginfo"})


class StoredOutput(BaseModel):
    """An output node; `prefix` is that of its files' names."""

    node_id: str
    class_type: str
    prefix: str | None = None


class StoredPrompt(BaseModel):
    """The data of a prompt that ComfyUI's API shows. `node_id` is the node that does the work."""

    prompt_id: str
    number: float
    client_id: str | None
    graph: dict[str, JsonValue]
    extra_data: dict[str, JsonValue]
    outputs: list[StoredOutput]
    order: list[str]
    node_id: str

    def kept(self) -> DialectObject:
        """Return what is kept with the job; a graph that is too large for that is left out."""
        found = DialectObject(dialect=DialectName.COMFYUI, data=self.model_dump(mode="json"))
        if len(found.model_dump_json()) <= MAX_BYTES // 4:  # its characters have up to 4 bytes
            return found
        bare = self.model_copy(update={"graph": {}, "extra_data": {}})
        return DialectObject(dialect=DialectName.COMFYUI, data=bare.model_dump(mode="json"))

    def item(self) -> list[Any]:
        """Return the prompt as an item of the queue."""
        ends = [output.node_id for output in self.outputs]
        return [self.number, self.prompt_id, self.graph, self.extra_data, ends]

    def class_of(self, node_id: str) -> str:
        """Return the class of a node, as far as the graph is kept."""
        match self.graph.get(node_id):
            case {"class_type": str() as class_type}:
                return class_type
        return next((one.class_type for one in self.outputs if one.node_id == node_id), "")


@dataclass(frozen=True)
class Prompt:
    """A prompt of a client and its job, with the times of that."""

    stored: StoredPrompt
    view: JobView
    began_ms: int
    ended_ms: int

    @property
    def job_id(self) -> str:
        return self.view.id

    def images(self) -> dict[str, JsonValue]:
        """Return the images of the output nodes that keep them."""
        count = len(self.view.result.images) if self.view.result else 0
        return {
            output.node_id: {"images": [self._image(output, i) for i in range(count)]}
            for output in self.stored.outputs
            if output.class_type != SOCKET
        }

    def _image(self, output: StoredOutput, index: int) -> JsonValue:
        """Return the place of an image; nobody can guess the id of the job in its name."""
        assert self.view.result
        ending = self.view.result.images[index].format.value
        subfolder, _, stem = (output.prefix or "ComfyUI_temp").rpartition("/")
        name = f"{stem}_{self.job_id}_{index + 1:05}_.{ending}"
        folder = "output" if output.class_type == SAVED else "temp"
        return {"filename": name, "subfolder": subfolder, "type": folder}


async def prompts_of(
    services: Services, user: User, states: Collection[JobState], limit: int
) -> list[Prompt]:
    """Return prompts of a client in these states, the newest first."""
    wanted = JobFilter(states=states, dialect=DialectName.COMFYUI)

    def found() -> list[Prompt]:
        page = services.job_list.page(user.client, wanted, limit)
        views = [one.view for one in page.jobs]
        return _joined(views, _kept(services, user, [view.id for view in views]))

    return await run_in_threadpool(found)


async def prompt_of(services: Services, user: User, prompt_id: str) -> Prompt | None:
    """Return a prompt of a client by its id."""

    def found() -> list[Prompt]:
        job_id = services.prompts.named(user.client, prompt_id)
        if job_id is None:
            return []
        kept = _kept(services, user, [job_id])
        views = services.queue.view_many([(job_id, user.client)])
        return _joined([view for view in views if isinstance(view, JobView)], kept)

    prompts = await run_in_threadpool(found)
    return prompts[0] if prompts else None


def _kept(services: Services, user: User, job_ids: Sequence[str]) -> list[DialectJob | None]:
    return services.dialect_jobs.read_many(job_ids, DialectName.COMFYUI, user.client)


def _joined(views: Sequence[JobView], kept: Sequence[DialectJob | None]) -> list[Prompt]:
    return [
        Prompt(
            StoredPrompt.model_validate(one.object.data),
            view,
            _ms(one.started_at or one.created_at),
            _ms(one.ended_at or one.started_at or one.created_at),
        )
        for view, one in zip(views, kept, strict=True)
        if one is not None
    ]


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1000)
