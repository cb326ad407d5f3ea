"""The base class of everything that programs exchange: immutable JSON without unknown fields."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# Without `strict`, "512" and true would be accepted as integers: Python's bool is one.
Bool = Annotated[bool, Field(strict=True)]
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]


class Record(BaseModel):
    """A frozen value that is exchanged as JSON; an unknown field is an error."""

    # Inputs are hidden because tracebacks are logged, and prompts must not be.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def common_fields(source: Record, kind: type[Record]) -> dict[str, Any]:
    """Return the fields of `source` that `kind` has, too, by name."""
    names = (name for name in kind.model_fields if name in type(source).model_fields)
    return {name: getattr(source, name) for name in names}
