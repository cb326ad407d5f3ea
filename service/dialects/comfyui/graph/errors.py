"""The errors of a graph, each with ComfyUI's type, message and details (its execution.py)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from protocol.errors import InvalidRequest, shorten

KIND = "graph-refused"


@dataclass(frozen=True)
class Fault:
    """One error, of the whole graph or of a node."""

    type: str
    message: str
    details: str
    extra_info: Mapping[str, JsonValue] = field(default_factory=dict)

    def body(self) -> JsonValue:
        return {
            "type": self.type,
            "message": self.message,
            "details": self.details,
            "extra_info": dict(self.extra_info),
        }


@dataclass(frozen=True)
class NodeFault:
    """The errors of a node, and the output nodes that depend on it."""

    node_id: str
    class_type: str
    faults: tuple[Fault, ...]
    dependent_outputs: tuple[str, ...] = ()

    def body(self) -> JsonValue:
        return {
            "errors": [fault.body() for fault in self.faults],
            "dependent_outputs": list(self.dependent_outputs),
            "class_type": self.class_type,
        }


class GraphRefused(InvalidRequest):
    """A graph that is not valid, or that asks for what is not possible here."""

    def __init__(self, fault: Fault, nodes: Sequence[NodeFault] = ()) -> None:
        super().__init__("prompt", None, fault.message, KIND)
        self.message = f"{fault.message}: {fault.details}" if fault.details else fault.message
        self.fault = fault
        self.nodes = tuple(nodes)

    def body(self) -> JsonValue:
        """Return the answer in ComfyUI's form."""
        nodes = {one.node_id: one.body() for one in self.nodes}
        return {"error": self.fault.body(), "node_errors": nodes}


def refused(*nodes: NodeFault) -> GraphRefused:
    """Return the refusal of a graph for the errors of its nodes."""
    lines = [
        f"{one.class_type} #{one.node_id}: {fault.message}: {fault.details}"
        for one in nodes
        for fault in one.faults
    ]
    first = lines[0] if lines else ""
    message = f"Prompt outputs failed validation: {first}"
    fault = Fault("prompt_outputs_failed_validation", message, "\n".join(lines))
    return GraphRefused(fault, nodes)


def input_fault(kind: str, message: str, name: str, details: str, received: object) -> Fault:
    """Return an error of one input of a node."""
    info: dict[str, JsonValue] = {"input_name": name, "received_value": _shown(received)}
    return Fault(kind, message, details, info)


def not_possible(name: str, reason: str) -> Fault:
    """Return the error of an input, or a combination, that is valid but not possible here."""
    message = "Custom validation failed for node"
    return Fault("custom_validation_failed", message, f"{name} - {reason}", {"input_name": name})


def not_in_list(name: str, value: object, offered: Iterable[object]) -> Fault:
    """Return the error of a choice that is not offered."""
    names = list(offered)
    shown = str(names) if len(names) <= 20 else f"(list of length {len(names)})"
    details = f"{name}: {_shown(value)!r} not in {shown}"
    return input_fault("value_not_in_list", "Value not in list", name, details, value)


def _shown(value: object) -> JsonValue:
    shown: JsonValue = shorten(value)
    return shown
