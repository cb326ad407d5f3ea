"""The messages about a prompt, in the order of ComfyUI: of its WebSocket, and of its history.

They follow from what a job's views say, so every API process makes the same of them.
"""

from dataclasses import dataclass, field
from typing import Any

from protocol.errors import DarkroomError
from protocol.queue.job import TERMINAL, JobState, JobView
from service.dialects.comfyui.stored import SOCKET, Prompt
from service.schemas.problems import problem_of

Message = tuple[str, dict[str, Any]]  # type, data


def messages_of(prompt: Prompt) -> list[Message]:
    """Return the messages that the history of an ended prompt keeps."""
    start = {"prompt_id": prompt.stored.prompt_id, "timestamp": prompt.began_ms}
    found: list[Message] = [
        ("execution_start", start),
        ("execution_cached", {"nodes": [], **start}),
    ]
    return [*found, _end(prompt)]


def _end(prompt: Prompt) -> Message:
    """Return the message about the end of a prompt."""
    stored, view = prompt.stored, prompt.view
    data: dict[str, Any] = {"prompt_id": stored.prompt_id, "timestamp": prompt.ended_ms}
    if view.state is JobState.FINISHED:
        return "execution_success", data
    node = {"node_id": stored.node_id, "node_type": stored.class_of(stored.node_id)}
    data |= {**node, "executed": _before(prompt)}
    if view.state is JobState.CANCELLED:
        return "execution_interrupted", data
    error = DarkroomError.from_record(view.error) if view.error else DarkroomError()
    problem = problem_of(error)
    return "execution_error", {
        **data,
        "exception_message": problem.detail,
        "exception_type": problem.kind,
        "traceback": [],
        "current_inputs": {},
        "current_outputs": _before(prompt),
    }


def _before(prompt: Prompt) -> list[str]:
    """Return the nodes before the one that does the work."""
    order = prompt.stored.order
    return order[: order.index(prompt.stored.node_id)] if prompt.stored.node_id in order else []


@dataclass
class Progressing:
    """The messages about a prompt while its job goes on; each view yields those that are new."""

    prompt: Prompt
    started: bool = False
    step: int = -1
    executed: list[str] = field(default_factory=list)

    def at(self, view: JobView) -> list[Message]:
        """Return the new messages of a view that is not the last."""
        if view.state is not JobState.RUNNING:
            return []
        messages = self._start()
        if (progress := view.progress) and progress.steps and progress.step > self.step:
            self.step = progress.step
            messages += self._progress(progress.step, progress.steps)
        return messages

    def end(self, prompt: Prompt) -> list[Message]:
        """Return the messages of an ended prompt, up to the last but "executing nothing".

        The images of SaveImageWebsocket are sent after the message that executes it.
        """
        assert prompt.view.state in TERMINAL
        if prompt.view.state is not JobState.FINISHED:
            return [*(self._start() if prompt.view.error else ()), _end(prompt)]
        messages, images = self._start(), prompt.images()
        for node_id in self.prompt.stored.order:
            if node_id not in self.executed:
                messages.append(self._executing(node_id))
                if node_id in images:
                    shown = {"node": node_id, "display_node": node_id, "output": images[node_id]}
                    messages.append(("executed", {**shown, "prompt_id": self._id}))
        return [*messages, _end(prompt)]

    @property
    def _id(self) -> str:
        return self.prompt.stored.prompt_id

    def _start(self) -> list[Message]:
        """Return the messages up to the node that does the work, once."""
        if self.started:
            return []
        self.started = True
        before = messages_of(self.prompt)[:-1]
        nodes = [*_before(self.prompt), self.prompt.stored.node_id]
        return [*before, *map(self._executing, nodes)]

    def _executing(self, node_id: str) -> Message:
        self.executed.append(node_id)
        data = {"node": node_id, "display_node": node_id, "prompt_id": self._id}
        return "executing", data

    def _progress(self, step: int, steps: int) -> list[Message]:
        node_id = self.prompt.stored.node_id
        done = {"value": step, "max": steps, "prompt_id": self._id}
        state = {**done, "state": "running", "node_id": node_id, "display_node_id": node_id}
        state |= {"parent_node_id": None, "real_node_id": node_id}
        return [
            ("progress_state", {"prompt_id": self._id, "nodes": {node_id: state}}),
            ("progress", {**done, "node": node_id}),
        ]


def done(prompt: Prompt) -> Message:
    """Return the message after all others: nothing is executed any more."""
    return "executing", {"node": None, "prompt_id": prompt.stored.prompt_id}


def is_by_socket(prompt: Prompt, message: Message) -> bool:
    """Return True for the message after which images are sent by the socket."""
    name, data = message
    sockets = {one.node_id for one in prompt.stored.outputs if one.class_type == SOCKET}
    return name == "executing" and data["node"] in sockets
