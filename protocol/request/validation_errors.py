"""Conversion of pydantic's validation errors into `InvalidRequest`."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact

Context = Mapping[str, Any]

# pydantic's error type -> our problem id, and the bound. Its own messages are never shown.
PROBLEMS: dict[str, tuple[str, Callable[[Context], str]]] = {
    "missing": ("missing-field", lambda _: "given"),
    "extra_forbidden": ("unknown-field", lambda _: "left out: there is no such field here"),
    "bool_type": ("wrong-type", lambda _: "true or false"),
    "int_type": ("wrong-type", lambda _: "an integer"),
    "int_from_float": ("wrong-type", lambda _: "an integer"),
    "int_parsing": ("wrong-type", lambda _: "an integer"),
    "int_parsing_size": ("out-of-range", lambda _: "an integer of fewer digits"),
    "float_type": ("wrong-type", lambda _: "a number"),
    "finite_number": ("not-finite", lambda _: "a finite number"),
    "string_type": ("wrong-type", lambda _: "a string"),
    "string_unicode": ("text-not-unicode", lambda _: "a string of whole Unicode characters"),
    "string_too_short": (
        "too-short",
        lambda context: f"at least {context['min_length']} characters long",
    ),
    "string_too_long": (
        "too-long",
        lambda context: f"at most {context['max_length']} characters long",
    ),
    "too_short": ("too-few", lambda context: f"at least {context['min_length']} of them"),
    "too_long": ("too-many", lambda context: f"at most {context['max_length']} of them"),
    "tuple_type": ("wrong-type", lambda _: "a list"),
    "list_type": ("wrong-type", lambda _: "a list"),
    "dict_type": ("wrong-type", lambda _: "an object"),
    "string_pattern_mismatch": ("malformed", lambda context: f"of the form {context['pattern']}"),
    "enum": ("unknown-choice", lambda context: f"one of {_choices(context['expected'])}"),
    "greater_than": ("out-of-range", lambda context: f"above {exact(context['gt'])}"),
    "greater_than_equal": ("out-of-range", lambda context: f"at least {exact(context['ge'])}"),
    "less_than": ("out-of-range", lambda context: f"below {exact(context['lt'])}"),
    "less_than_equal": ("out-of-range", lambda context: f"at most {exact(context['le'])}"),
    "model_type": ("wrong-type", lambda _: "an object"),
    # Of validators of ours, whose messages are bounds.
    "value_error": ("invalid-value", lambda context: str(context["error"])),
    # Of settings, which are parsed from text.
    "bool_parsing": ("wrong-type", lambda _: "true or false"),
    "float_parsing": ("wrong-type", lambda _: "a number"),
    "multiple_of": ("out-of-range", lambda context: f"a multiple of {context['multiple_of']}"),
    "literal_error": (
        "unknown-choice",
        lambda context: f"one of {_choices(context['expected'])}",
    ),
}
# Tags of the kinds in a union. pydantic puts them into a location; a client did not send them.
TAGS = (NUMBER, NAME) = "<number>", "<name>"
OTHER_PROBLEM: tuple[str, Callable[[Context], str]] = ("invalid-value", lambda _: "as documented")


def first_invalid_request(error: ValidationError) -> InvalidRequest:
    """Return the first of pydantic's errors with its field, value and bound."""
    return to_invalid_request(error.errors(include_url=False)[0])


def to_invalid_request(details: Mapping[str, Any]) -> InvalidRequest:
    """Return one entry of pydantic's list of errors as `InvalidRequest`."""
    problem, bound = PROBLEMS.get(details["type"], OTHER_PROBLEM)
    field = ".".join(str(part) for part in details["loc"] if part not in TAGS) or "body"
    value = None if details["type"] == "missing" else _value(details["input"])
    return InvalidRequest(field, value, bound(details.get("ctx", {})), problem)


def bound_of(details: Mapping[str, Any]) -> str:
    """Return the bound that the value of one entry of pydantic's list of errors is beyond."""
    return PROBLEMS.get(details["type"], OTHER_PROBLEM)[1](details.get("ctx", {}))


def _value(value: object) -> object:
    """Return "null" for None: a null that was sent differs from a missing field."""
    return "null" if value is None else value


def _choices(expected: str) -> str:
    """Return pydantic's "'a', 'b' or 'c'" as "a, b, c"."""
    return expected.replace("'", "").replace(" or ", ", ")
