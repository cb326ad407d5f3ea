"""/ws: the events of a client's prompts, whichever API process they were sent to.

A socket is told of the prompts with its id as client_id. It follows their jobs as any event stream
does, and is woken when the client sends another prompt (`protocol.clients.prompts`).
"""

import asyncio
import json
import secrets
import uuid
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from protocol.clients.names import client_name
from protocol.errors import DarkroomError
from protocol.queue.job import TERMINAL, JobState, JobView
from service.auth.api_keys import User
from service.dialects.comfyui import frames
from service.dialects.comfyui.events import Message, Progressing, done, is_by_socket
from service.dialects.comfyui.stored import ACTIVE, MAX_ACTIVE, Prompt, prompt_of, prompts_of
from service.dialects.comfyui.system import features
from service.middleware.errors import INTERNAL_ERROR, shown_error
from service.routes.deps import Services, ServicesDep, UserDep
from service.schemas.response_builder import previews_of

router = APIRouter()

MAX_ID = 200  # characters
NEWEST = 20  # prompts among which one that has already ended may be new
REPLACED = 1000  # the code of an ordinary close


@router.websocket("/ws")
async def comfy_socket(
    socket: WebSocket,
    services: ServicesDep,
    user: UserDep,
    client_id: Annotated[str, Query(alias="clientId", max_length=MAX_ID)] = "",
) -> None:
    """Follow the prompts of the client whose client_id is that of the socket."""
    await socket.accept()
    session = Session(socket, services, user, client_id or uuid.uuid4().hex)
    with suppress(WebSocketDisconnect):
        await session.run()


@dataclass
class Session:
    """One socket. `seen` are the jobs that it has followed."""

    socket: WebSocket
    services: Services
    user: User
    id: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    seen: set[str] = field(default_factory=set)
    metadata: bool = False  # the client reads previews with metadata
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Serve the socket until the client disconnects, or another takes its place."""
        reading = asyncio.create_task(self._read())
        telling = asyncio.create_task(self._tell())
        try:
            await asyncio.wait((reading, telling), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await self.socket.close(_code(telling.exception()))
        finally:
            await _ended({reading, telling, *self.tasks})

    async def _read(self) -> None:
        """Read what the client says: only its first message is of interest, if it has features."""
        first = True
        while (message := await self.socket.receive())["type"] != "websocket.disconnect":
            asked = _object(message.get("text"))
            if first and asked.get("type") == "feature_flags":
                flags = asked.get("data")
                wanted = flags.get("supports_preview_metadata") if isinstance(flags, dict) else None
                self.metadata = wanted is True
                await self._send(("feature_flags", features(self.services.settings)))
            first = False

    async def _tell(self) -> None:
        """Tell of every prompt from now on; returns when another socket has the same id."""
        client = self.user.client
        async with self.services.watcher.notices(client_name(client)) as notice:
            await run_in_threadpool(self.services.prompts.claim_socket, client, self.id, self.token)
            active = await self._active()
            ended = await prompts_of(self.services, self.user, TERMINAL, NEWEST)
            # One that ended between the two calls is in both, and was not told of.
            self.seen = _ids(ended) - _ids(active)
            await self._status(len(active), sid=True)
            while True:
                # Those that have ended already may be new too.
                recent = await prompts_of(self.services, self.user, TERMINAL, NEWEST)
                for prompt in reversed([*active, *recent]):
                    self._follow(prompt)
                await notice()
                if not await run_in_threadpool(
                    self.services.prompts.has_socket, client, self.id, self.token
                ):
                    return
                before, active = active, await self._active()
                if len(before) != len(active):
                    await self._status(len(active))

    def _follow(self, prompt: Prompt) -> None:
        """Tell of a prompt from now on, once: one may be among the active and the ended prompts."""
        if prompt.job_id in self.seen:
            return
        self.seen.add(prompt.job_id)
        if prompt.stored.client_id == self.id:
            task = asyncio.create_task(self._tell_of(prompt))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _tell_of(self, prompt: Prompt) -> None:
        """Tell of one prompt from its beginning to its end."""
        progressing, seen = Progressing(prompt), 0
        with suppress(WebSocketDisconnect, RuntimeError):  # the socket was closed meanwhile
            async with aclosing(self.services.watcher.updates(prompt.job_id)) as updates:
                async for view in updates:
                    if view.state in TERMINAL:
                        await self._tell_end(prompt, progressing)
                        return
                    for message in progressing.at(view):
                        await self._send(message)
                    seen = await self._preview(prompt, view, seen)

    async def _tell_end(self, prompt: Prompt, progressing: Progressing) -> None:
        """Tell of the end; the history has it already, and the queue no longer."""
        ended = await prompt_of(self.services, self.user, prompt.stored.prompt_id)
        if ended is None or ended.job_id != prompt.job_id or ended.view.state not in TERMINAL:
            await self._send(done(prompt))  # deleted meanwhile
            return
        async with self.sending:  # a client knows frames by the node that was executed last
            for message in progressing.end(ended):
                await self._send_now(message)
                if is_by_socket(prompt, message):
                    await self._send_images(ended)
        await self._status(len(await self._active()))
        await self._send(done(prompt))

    async def _send_images(self, prompt: Prompt) -> None:
        assert prompt.view.result
        for image in prompt.view.result.images:
            data = await run_in_threadpool(self.services.store.get, image.key)
            await self.socket.send_bytes(frames.preview(data))

    async def _preview(self, prompt: Prompt, view: JobView, seen: int) -> int:
        """Send the latest preview, if there is a new one; return the number of those so far."""
        if previews_of(view) <= seen or view.state is not JobState.RUNNING:
            return seen
        with suppress(DarkroomError):  # without it the prompt goes on
            jpeg = await run_in_threadpool(self.services.board.preview, view.id)
            if jpeg is not None:
                about = {"node_id": prompt.stored.node_id, "prompt_id": prompt.stored.prompt_id}
                frame = frames.with_metadata(jpeg, about) if self.metadata else frames.preview(jpeg)
                async with self.sending:
                    await self.socket.send_bytes(frame)
        return previews_of(view)

    async def _active(self) -> list[Prompt]:
        return await prompts_of(self.services, self.user, ACTIVE, MAX_ACTIVE)

    async def _status(self, remaining: int, *, sid: bool = False) -> None:
        status: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": remaining}}}
        await self._send(("status", status | ({"sid": self.id} if sid else {})))

    async def _send(self, message: Message) -> None:
        async with self.sending:
            await self._send_now(message)

    async def _send_now(self, message: Message) -> None:
        name, data = message
        await self.socket.send_text(json.dumps({"type": name, "data": data}))


def _ids(prompts: Iterable[Prompt]) -> set[str]:
    return {prompt.job_id for prompt in prompts}


def _object(text: object) -> dict[str, Any]:
    """Return a JSON object, an empty one for anything else; its length is bounded by the socket."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text) if isinstance(text, str) else None
        return found if isinstance(found, dict) else {}
    return {}


def _code(error: BaseException | None) -> int:
    """Return the code of the end of a socket, and log an unexpected error."""
    if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
        shown_error(error)
        return INTERNAL_ERROR
    return REPLACED


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
