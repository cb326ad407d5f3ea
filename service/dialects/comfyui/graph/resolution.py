"""Resolves a graph: every node once, in the order of its links, without recursion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.errors import Fault, GraphRefused, NodeFault, refused
from service.dialects.comfyui.graph.inputs import check_links, read_values
from service.dialects.comfyui.graph.node_class import Here, NodeRefused
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import Graph, Node
from service.dialects.comfyui.graph.values import Image


@dataclass(frozen=True)
class Output:
    """An output node, its images, and the prefix of their names, if they are saved."""

    node_id: str
    class_type: str
    image: Image
    prefix: str | None = None


@dataclass(frozen=True)
class Resolution:
    """The outputs of a graph, and the nodes they need in the order of their execution."""

    outputs: tuple[Output, ...]
    order: tuple[str, ...]


def resolve_graph(graph: Graph, offer: Offer, targets: Sequence[str] | None = None) -> Resolution:
    """Return what the outputs of a graph are; `targets` are the outputs that are wanted.

    Raises `GraphRefused`.
    """
    ends = [
        node_id
        for node_id, node in graph.items()
        if NODES[node.class_type].is_output and (targets is None or node_id in targets)
    ]
    if not ends:
        raise GraphRefused(Fault("prompt_no_outputs", "Prompt has no outputs", ""))
    needed = _needed(graph, ends)
    values = _checked_values(graph, needed, ends, offer)
    order = _order(graph, needed, ends)
    results: dict[str, Sequence[object]] = {}
    for node_id in order:
        try:
            results[node_id] = _result(graph[node_id], values[node_id], offer, results)
        except NodeRefused as error:
            class_type = graph[node_id].class_type
            raise refused(NodeFault(node_id, class_type, (error.fault,), tuple(ends))) from error
    outputs = tuple(found for end in ends for found in results[end] if isinstance(found, Output))
    return Resolution(outputs, order)


def _needed(graph: Graph, ends: Sequence[str]) -> set[str]:
    """Return the nodes on which the outputs depend."""
    needed, waiting = set(ends), list(ends)
    while waiting:
        for link in _links(graph[waiting.pop()]):
            if link in graph and link not in needed:
                needed.add(link)
                waiting.append(link)
    return needed


def _links(node: Node) -> list[str]:
    """Return the nodes that the inputs of a node come from; unknown inputs are ignored."""
    known = NODES[node.class_type].inputs
    return [link.node_id for name, link in node.links.items() if name in known]


def _checked_values(
    graph: Graph, needed: set[str], ends: Sequence[str], offer: Offer
) -> dict[str, Mapping[str, object]]:
    """Return the values of each node's inputs. Raises `GraphRefused` for all that are wrong."""
    checked: dict[str, Mapping[str, object]] = {}
    wrong = []
    for node_id, node in graph.items():
        if node_id not in needed:
            continue
        kind = NODES[node.class_type]
        checked[node_id], faults = read_values(node, kind, offer)
        faults = [*check_links(node, kind, graph, NODES), *faults]
        if faults:
            wrong.append(NodeFault(node_id, node.class_type, tuple(faults), tuple(ends)))
    if wrong:
        raise refused(*wrong)
    return checked


def _order(graph: Graph, needed: set[str], ends: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes, each after those that it needs. Raises `GraphRefused` for a cycle.

    The order does not depend on that of the graph's text, but on its links and ids.
    """
    missing = {node_id: len(_links(graph[node_id])) for node_id in needed}
    users: dict[str, list[str]] = {node_id: [] for node_id in needed}
    for node_id in sorted(needed):
        for link in _links(graph[node_id]):
            users[link].append(node_id)
    ready = sorted((node_id for node_id, count in missing.items() if count == 0), reverse=True)
    order: list[str] = []
    while ready:
        node_id = ready.pop()
        order.append(node_id)
        for user in users[node_id]:
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if left := [node_id for node_id in sorted(needed) if missing[node_id] > 0]:
        details = "nodes that depend on themselves"
        fault = Fault("dependency_cycle", "Dependency cycle detected", details)
        raise refused(
            *(NodeFault(one, graph[one].class_type, (fault,), tuple(ends)) for one in left)
        )
    return tuple(order)


def _result(
    node: Node, values: Mapping[str, object], offer: Offer, results: Mapping[str, Sequence[object]]
) -> Sequence[object]:
    """Return the outputs of a node. Raises `NodeRefused`."""
    kind = NODES[node.class_type]
    linked = {
        name: results[link.node_id][link.output]
        for name, link in node.links.items()
        if name in kind.inputs
    }
    absent = {name: None for name, one in kind.inputs.items() if not one.is_value}
    found = kind.resolve(Here(node.id, offer), **absent | dict(values) | linked)
    match found if kind.is_output else None:
        case (Image() as image, str() as prefix):
            return [Output(node.id, node.class_type, image, prefix)]
        case (Image() as image,):
            return [Output(node.id, node.class_type, image)]
        case _:
            return found
