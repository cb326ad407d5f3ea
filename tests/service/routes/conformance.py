"""Operations of the OpenAPI description as schemathesis reads them, and its checks.

A test imports this module when it runs, because schemathesis takes long to import.
"""

from typing import Any

from schemathesis import APIOperation, Case, CheckContext, GenerationMode, Response, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.dialects.registry import DIALECTS
from tests.service.description import Description, disagreement

# A form has these lists as JSON text, which its schema does not restrict further.
JSON_TEXT = ("boxes", "loras", "control")


def accepts_what_matches(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Check that a request that matches its schema is not refused for a reason of the schema."""
    if response.status_code == 422:
        problem = response.json()
        in_form = case.media_type == "multipart/form-data"
        if not (in_form and problem["field"].startswith(JSON_TEXT)):
            assert disagreement(True, 422, problem) is None


ALWAYS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS = {
    GenerationMode.POSITIVE: [*ALWAYS, accepts_what_matches],
    GenerationMode.NEGATIVE: [*ALWAYS, negative_data_rejection],
}
# Clients of dialects send what no schema says, and it is accepted or ignored.
CHECKS_OF_DIALECTS = dict.fromkeys(CHECKS, ALWAYS)


def checks_of(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> list[Any]:
    """Return the checks of an operation's responses."""
    of_dialect = DIALECTS.keys() & set(operation.definition.raw["tags"])
    return (CHECKS_OF_DIALECTS if of_dialect else CHECKS)[mode]


def api_operations(description: Description) -> dict[str, APIOperation[Any, Any, Any, Any]]:
    """Return all operations by their ids."""
    found = (
        result.ok()
        for result in openapi.from_dict(description).get_all_operations()
        if isinstance(result, Ok)
    )
    return {operation.definition.raw["operationId"]: operation for operation in found}
