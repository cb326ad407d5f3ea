"""The base of all that crosses between programs: immutable, closed to unknown fields, JSON."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Without `strict`, "512" and true would pass for integers, for Python's bool is one.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]


class Record(BaseModel):
    """A frozen value that crosses as JSON; a field nobody knows is an error, not a shrug."""

    # Inputs are hidden because tracebacks are logged, and prompts must not be.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
