"""From pydantic's words to ours: what is wrong with a record, as a refusal a client can act on."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from protocol.errors import InvalidRequest

Context = Mapping[str, Any]

# pydantic's error type -> our problem, and the bound in words. Its own texts are never shown.
REFUSALS: dict[str, tuple[str, Callable[[Context], str]]] = {
    "missing": ("missing-field", lambda _: "given"),
    "extra_forbidden": ("unknown-field", lambda _: "left out: there is no such field here"),
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
    "string_pattern_mismatch": ("malformed", lambda context: f"of the form {context['pattern']}"),
    "enum": ("unknown-choice", lambda context: f"one of {_listed(context['expected'])}"),
    "greater_than": ("out-of-range", lambda context: f"above {context['gt']:g}"),
    "greater_than_equal": ("out-of-range", lambda context: f"at least {context['ge']}"),
    "less_than": ("out-of-range", lambda context: f"below {context['lt']}"),
    "less_than_equal": ("out-of-range", lambda context: f"at most {context['le']}"),
    "model_type": ("wrong-type", lambda _: "an object"),
}
# Which of two kinds a value was taken for: parts of a place that no client wrote.
KINDS = (NUMBER, NAME) = "<number>", "<name>"
UNFORESEEN: tuple[str, Callable[[Context], str]] = ("invalid-value", lambda _: "as documented")


def first_refusal(error: ValidationError) -> InvalidRequest:
    """The first of pydantic's complaints: which field, what it was, what it should have been."""
    return refusal(error.errors(include_url=False)[0])


def refusal(complaint: Mapping[str, Any]) -> InvalidRequest:
    """One complaint, in the form that pydantic lists them in."""
    problem, bound = REFUSALS.get(complaint["type"], UNFORESEEN)
    field = ".".join(str(part) for part in complaint["loc"] if part not in KINDS) or "body"
    value = None if complaint["type"] == "missing" else _spelled(complaint["input"])
    return InvalidRequest(field, value, bound(complaint.get("ctx", {})), problem)


def _spelled(value: object) -> object:
    """A null that was sent is not the same as nothing sent."""
    return "null" if value is None else value


def _listed(expected: str) -> str:
    """pydantic's "'a', 'b' or 'c'" as "a, b, c"."""
    return expected.replace("'", "").replace(" or ", ", ")
