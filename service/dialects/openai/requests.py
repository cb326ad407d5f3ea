"""The fields of OpenAI's requests that have an effect here, as its clients send them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from protocol.record import Bool, Int
from protocol.request.client_record import ClientRecord
from protocol.request.fields import WHOLE, Name, Prompt
from protocol.request.validation_errors import first_invalid_request
from service.dialects.lenient import coerced
from service.schemas.body_parser import Fields

MAX_N = 10
MAX_PARTIAL_IMAGES = 3
NO_EFFECT = "Accepted, without effect."

FileFormat = Literal["png", "webp", "jpeg"]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]


def _file_format(value: object) -> object:
    return "jpeg" if value == "jpg" else value


class ImagesRequest(ClientRecord):
    """The fields that all three routes take. Unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: Prompt = Field(default="", description="What the image shows.")
    model: Name | None = Field(
        default=None,
        description="A model of /v1/models. The names of OpenAI's image models mean the default.",
    )
    n: Annotated[Int, Field(ge=1, le=MAX_N), WHOLE] = Field(
        default=1, description="Number of images."
    )
    size: str | None = Field(
        default=None, description="WIDTHxHEIGHT, or auto, which is also the default."
    )
    quality: Quality = Field(default="auto", description=NO_EFFECT)
    background: Literal["auto", "opaque"] = Field(
        default="auto", description="transparent is not possible: images are opaque."
    )
    output_format: Annotated[FileFormat, BeforeValidator(_file_format)] = Field(
        default="png", description="The file format of the images."
    )
    output_compression: Annotated[Int, Field(ge=0, le=100), WHOLE] = Field(
        default=100, description="The quality of JPEG and WebP files."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default=None,
        description="Images in the response, or URLs of them. Default: url if the name of the "
        "model begins with dall-e, else b64_json.",
    )
    stream: Bool = Field(
        default=False, description="Respond with server-sent events, images in base64."
    )
    partial_images: Annotated[Int, Field(ge=0, le=MAX_PARTIAL_IMAGES), WHOLE] = Field(
        default=0,
        description="With stream: at most so many previews, fewer of an image that is ready soon.",
    )

    @property
    def wants_urls(self) -> bool:
        """Return True if the response is to have URLs."""
        if self.response_format is None:
            return (self.model or "").startswith("dall-e")
        return self.response_format == "url"


class GenerationsRequest(ImagesRequest):
    """A request for images of a prompt."""

    prompt: Prompt = Field(description="What the image shows.", examples=["a slice of pizza"])


class EditsRequest(GenerationsRequest):
    """A request to change images by a prompt."""


class VariationsRequest(ImagesRequest):
    """A request for images like another, without a prompt."""


def parse_request(kind: type[ImagesRequest], fields: Fields) -> ImagesRequest:
    """Return the fields of a request, numbers also from text. Raises `InvalidRequest`."""
    try:
        return kind.model_validate(coerced(_filled_in(fields), kind))
    except ValidationError as error:
        raise first_invalid_request(error) from error


def _filled_in(fields: Fields) -> Fields:
    """Return `fields` without those that a form left empty; a prompt may be empty."""
    return {name: value for name, value in fields.items() if value != "" or name == "prompt"}
