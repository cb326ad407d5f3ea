"""A problem (RFC 9457): the reason of an error, as clients of the native API see it."""

from pydantic import BaseModel, Field, JsonValue

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:darkroom:problem:"


class Problem(BaseModel):
    """The reason of an error (RFC 9457). `field`, `value` and `bound` say what to change."""

    type: str = Field(examples=[TYPE_PREFIX + "size-not-a-multiple"])
    title: str = Field(examples=["Size not a multiple"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["width is 500, but must be a multiple of 8"])
    field: str | None = Field(default=None, examples=["width"])
    value: JsonValue = Field(default=None, description="What was sent, shortened.", examples=[500])
    bound: str | None = Field(default=None, examples=["a multiple of 8"])
    job: str | None = Field(
        default=None, description="The path of the job, which goes on.", examples=[None]
    )
    request_id: str | None = Field(default=None, description="For asking the operator about it.")

    @property
    def kind(self) -> str:
        """Return the short id of the problem, the last part of its type."""
        return self.type.removeprefix(TYPE_PREFIX)
