"""Errors in ComfyUI's form: `{"error": {type, message, details, extra_info}, "node_errors"}`."""

from http import HTTPStatus

from pydantic import JsonValue

from protocol.errors import InvalidRequest
from service.dialects.comfyui.graph.draft import Draft
from service.dialects.comfyui.graph.errors import (
    Fault,
    GraphRefused,
    NodeFault,
    input_fault,
    not_possible,
    refused,
)
from service.dialects.comfyui.graph.parsing import Graph
from service.dialects.comfyui.graph.values import Origin
from service.schemas.error_format import ErrorFormat
from service.schemas.problem import Problem

AT_MOST, AT_LEAST, ONE_OF = "at most ", "at least ", "one of "


def _body(problem: Problem) -> JsonValue:
    fault = Fault(problem.kind.replace("-", "_"), problem.title, problem.detail)
    return {"error": fault.body(), "node_errors": {}}


def _status(problem: Problem) -> int:
    """Return the status; ComfyUI refuses all that it cannot read by 400."""
    if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    return problem.status


COMFYUI_ERRORS = ErrorFormat(_body, _status)


def of_invalid(error: InvalidRequest, draft: Draft, graph: Graph, ends: list[str]) -> GraphRefused:
    """Return an error of our request as that of the node from which the field comes."""
    origin = _origin(error.field, draft)
    fault = _fault(origin.input, error)
    class_type = graph[origin.node_id].class_type
    return refused(NodeFault(origin.node_id, class_type, (fault,), tuple(ends)))


def _origin(field: str, draft: Draft) -> Origin:
    """Return the input that a field, or the field that it is part of, comes from."""
    name = field
    while name and name not in draft.origins:
        name = name.rpartition(".")[0]
    return draft.origins.get(name) or Origin(draft.node_id, field)


def _fault(name: str, error: InvalidRequest) -> Fault:
    details, value = f"{name} - {error.message}", error.value
    bound = error.bound
    if isinstance(value, int | float) and bound.startswith(AT_MOST):
        message = f"Value {value} bigger than max of {bound.removeprefix(AT_MOST)}"
        return input_fault("value_bigger_than_max", message, name, details, value)
    if isinstance(value, int | float) and bound.startswith(AT_LEAST):
        message = f"Value {value} smaller than min of {bound.removeprefix(AT_LEAST)}"
        return input_fault("value_smaller_than_min", message, name, details, value)
    if isinstance(value, str) and bound.startswith(ONE_OF):
        return input_fault("value_not_in_list", "Value not in list", name, details, value)
    return not_possible(name, error.message)
