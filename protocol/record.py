"""The base of everything that crosses between programs: immutable, closed to unknown fields, JSON in and out."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# JSON has one number type and Python's bool is an int: without `strict`, "512" and true would pass for integers.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]


class Record(BaseModel):
    """A frozen value that crosses the wire as JSON; a field nobody knows is an error, not a shrug."""

    model_config = ConfigDict(frozen=True, extra="forbid")
