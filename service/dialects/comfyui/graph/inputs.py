"""The inputs of a node, checked and converted as ComfyUI does (its `validate_inputs`)."""

from collections.abc import Mapping

from service.dialects.comfyui.graph.errors import Fault, input_fault, not_in_list
from service.dialects.comfyui.graph.node_class import (
    COMBO,
    FLOAT,
    INT,
    Input,
    Listing,
    NodeClass,
)
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import Graph, Node

MAX_NUMBER_LENGTH = 40  # characters of a number in a text


def check_links(
    node: Node, kind: NodeClass, graph: Graph, known: Mapping[str, NodeClass]
) -> list[Fault]:
    """Return the errors of a node's links, and of inputs that are missing."""
    faults = []
    for name, wanted in kind.inputs.items():
        link = node.links.get(name)
        if link is None:
            if name not in node.values and not wanted.optional:
                faults.append(_fault("required_input_missing", "Required input is missing", name))
            elif name in node.values and not wanted.is_value:
                message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
                faults.append(_fault("bad_linked_input", message, name, node.values[name]))
            continue
        other = graph.get(link.node_id)
        outputs = known[other.class_type].outputs if other else ()
        if not 0 <= link.output < len(outputs):
            message = "Bad linked input, there is no such output"
            shown = f"{name}, [{link.node_id}, {link.output}]"
            faults.append(input_fault("bad_linked_input", message, name, shown, link.node_id))
        elif outputs[link.output] != wanted.type:
            details = (
                f"{name}, received_type({outputs[link.output]}) mismatch input_type({wanted.type})"
            )
            message = "Return type mismatch between linked nodes"
            faults.append(input_fault("return_type_mismatch", message, name, details, link.node_id))
    return faults


def read_values(node: Node, kind: NodeClass, offer: Offer) -> tuple[dict[str, object], list[Fault]]:
    """Return the values of a node's inputs, and the errors of those that are wrong."""
    values: dict[str, object] = {}
    faults = []
    for name, wanted in kind.inputs.items():
        if not wanted.is_value:
            continue
        if name not in node.values:
            values[name] = wanted.default
            continue
        found = _read(name, wanted, node.values[name], offer)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            values[name] = found
    return values, faults


def _read(name: str, wanted: Input, given: object, offer: Offer) -> object:
    """Return the value of an input, or its error."""
    if isinstance(given, Mapping) and "__value__" in given:
        given = given["__value__"]
    try:
        value = _converted(wanted, given)
    except (ValueError, TypeError, OverflowError):
        message = f"Failed to convert an input value to a {wanted.type} value"
        return input_fault("invalid_input_type", message, name, name, given)
    if isinstance(value, int | float):
        if wanted.min is not None and value < wanted.min:
            message = f"Value {_shown(value)} smaller than min of {_shown(wanted.min)}"
            return input_fault("value_smaller_than_min", message, name, name, value)
        if wanted.max is not None and value > wanted.max:
            message = f"Value {_shown(value)} bigger than max of {_shown(wanted.max)}"
            return input_fault("value_bigger_than_max", message, name, name, value)
    if wanted.type == COMBO:
        return _chosen(name, wanted, value, offer)
    return value


def _converted(wanted: Input, given: object) -> object:
    """Return a value in its type. Raises `ValueError`, `TypeError` and `OverflowError`."""
    if isinstance(given, list | Mapping) or given is None:
        raise TypeError
    if isinstance(given, str) and wanted.type in (INT, FLOAT) and len(given) > MAX_NUMBER_LENGTH:
        raise ValueError
    match wanted.type:
        case "INT":
            return int(given)  # type: ignore[call-overload]  # refuses what it cannot convert
        case "FLOAT":
            number = float(given)  # type: ignore[arg-type]  # the same
            if number != number:
                raise ValueError
            return number
        case "STRING":
            text = str(given)
            text.encode()  # half of a character is refused
            return text
        case "BOOLEAN":
            return bool(given)
        case _:
            return given


def _chosen(name: str, wanted: Input, value: object, offer: Offer) -> object:
    """Return a choice, or its error; the files of the client are checked by their nodes."""
    if wanted.options is Listing.IMAGES:
        return value if isinstance(value, str) else not_in_list(name, value, offer.images)
    if isinstance(wanted.options, Listing):
        found = offer.named(wanted.options, value) if isinstance(value, str) else None
        return not_in_list(name, value, offer.names(wanted.options)) if found is None else found
    return value if value in wanted.options else not_in_list(name, value, wanted.options)


def _fault(kind: str, message: str, name: str, received: object = None) -> Fault:
    return input_fault(kind, message, name, name, received)


def _shown(value: float) -> str:
    return str(value) if abs(value) < 2**70 else "a very large number"
