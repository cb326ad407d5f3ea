"""A graph as it comes: nodes by id, with values and links. Every size is bounded here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from service.dialects.comfyui.graph.errors import Fault, GraphRefused
from service.dialects.comfyui.graph.unsupported import reason_of

MAX_NODES = 500
MAX_BYTES = 2 * 2**20  # of the whole body
MAX_INPUTS = 100  # of a node
MAX_ID_LENGTH = 100


@dataclass(frozen=True)
class Link:
    """A link to an output of another node."""

    node_id: str
    output: int


@dataclass(frozen=True)
class Node:
    """A node: its class, its values, its links."""

    id: str
    class_type: str
    values: Mapping[str, object]
    links: Mapping[str, Link] = field(default_factory=dict)


Graph = Mapping[str, Node]


def parse_graph(prompt: object, known: Collection[str]) -> Graph:
    """Return the nodes of a graph, whose classes are all `known`. Raises `GraphRefused`."""
    if not isinstance(prompt, Mapping) or not prompt:
        raise GraphRefused(Fault("no_prompt", "No prompt provided", "No prompt provided"))
    if len(prompt) > MAX_NODES:
        details = f"{len(prompt)} nodes; at most {MAX_NODES} are taken"
        raise GraphRefused(Fault("invalid_prompt", "The prompt has too many nodes", details))
    for node_id, node in prompt.items():
        _check_class(node_id, node, known)
    return {node_id: _node(node_id, node) for node_id, node in prompt.items()}


def _check_class(node_id: str, node: object, known: Collection[str]) -> None:
    if len(node_id) > MAX_ID_LENGTH or not node_id.isprintable():
        details = f"a node id of up to {MAX_ID_LENGTH} printable characters"
        raise GraphRefused(Fault("invalid_prompt", "Invalid node id", details))
    place = f"Node ID '#{node_id}'"
    class_type = node.get("class_type") if isinstance(node, Mapping) else None
    if not isinstance(class_type, str):
        message = "Cannot execute because a node is missing the class_type property."
        raise GraphRefused(Fault("invalid_prompt", message, place, {"node_id": node_id}))
    if class_type not in known:
        reason = reason_of(class_type)
        shown = "".join(c for c in class_type[:100] if c.isprintable())
        message = f"Cannot execute because node {shown} does not exist{reason}."
        info: dict[str, JsonValue] = {"node_id": node_id, "class_type": shown}
        raise GraphRefused(Fault("invalid_prompt", message, place, info))


def _node(node_id: str, node: Mapping[str, object]) -> Node:
    inputs = node.get("inputs", {})
    if not isinstance(inputs, Mapping) or len(inputs) > MAX_INPUTS:
        details = f"Node ID '#{node_id}': inputs must be an object of up to {MAX_INPUTS} keys"
        raise GraphRefused(Fault("invalid_prompt", "Invalid inputs of a node", details))
    links = {name: link for name, value in inputs.items() if (link := _link(value)) is not None}
    values = {name: value for name, value in inputs.items() if name not in links}
    return Node(node_id, str(node["class_type"]), values, links)


def _link(value: object) -> Link | None:
    """Return a link, None for a value. Some programs write the node's id as a number."""
    match value:
        case [str() | int() as node_id, int() as output] if not isinstance(node_id, bool):
            return Link(str(node_id), output) if not isinstance(output, bool) else None
        case _:
            return None
