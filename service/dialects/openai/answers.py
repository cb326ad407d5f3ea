"""OpenAI's answers: the images, and what they have used."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from protocol.queue.job import FinishReason
from protocol.request.object_keys import OutputFormat
from protocol.request.sizes import size_text
from service.dialects.openai.requests import ImagesRequest
from service.schemas.responses import GenerationResponse, ImageResponse


class ImageData(BaseModel):
    """One image: `b64_json` or `url`. `seed` and `finish_reason` are ours."""

    b64_json: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    url: str | None = None
    seed: int = Field(description="The seed that generates exactly this image, with n = 1.")
    finish_reason: FinishReason | None = Field(
        default=None, description="content_filtered, if the model's safety checker has flagged it."
    )


class TokensDetails(BaseModel):
    """Tokens by their kind; images are no tokens here."""

    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """The tokens of the prompts; what a latent diffusion model generates are no tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: TokensDetails = TokensDetails()
    output_tokens_details: TokensDetails = TokensDetails()

    @classmethod
    def of(cls, text_tokens: int) -> "Usage":
        """Return the usage of a request whose prompts have so many tokens."""
        details = TokensDetails(text_tokens=text_tokens)
        return cls(input_tokens=text_tokens, total_tokens=text_tokens, input_tokens_details=details)


class ImagesResponse(BaseModel):
    """Finished images, in order of their seeds. `size` is that of the images."""

    created: int = Field(description="Seconds since 1970.")
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: str | None = Field(default=None, description="As in the request, if it was not auto.")
    size: str
    usage: Usage


class StreamedImage(BaseModel):
    """The fields that the events of a stream have in common."""

    type: str
    b64_json: str = Field(json_schema_extra={"contentEncoding": "base64"})
    created_at: int
    size: str
    quality: str
    background: str
    output_format: OutputFormat


class PartialImage(StreamedImage):
    """A preview of an image, in the size and format of the image."""

    partial_image_index: int


class CompletedImage(StreamedImage):
    """A finished image."""

    usage: Usage


@dataclass(frozen=True)
class Answer:
    """The parts of a request that its answer repeats. `event`: image_generation or image_edit."""

    asked: ImagesRequest
    event: str
    usage: Usage
    cancel_on_disconnect: bool | None

    def images(self, job: GenerationResponse) -> ImagesResponse:
        """Return the images of a finished job."""
        first = job.images[0]
        return ImagesResponse(
            created=int(time.time()),
            data=[_data(image) for image in job.images],
            output_format=first.format,
            quality=None if self.asked.quality == "auto" else self.asked.quality,
            size=size_text((first.width, first.height)),
            usage=self.usage,
        )

    def partial(self, base64: str, size: tuple[int, int], index: int) -> PartialImage:
        """Return the event of a preview."""
        return PartialImage(
            type=f"{self.event}.partial_image",
            b64_json=base64,
            partial_image_index=index,
            size=size_text(size),
            output_format=OutputFormat(self.asked.output_format),
            **self._repeated(),
        )

    def completed(self, job: GenerationResponse) -> Iterator[CompletedImage]:
        """Yield the event of each image of a finished job; the first has the usage of all."""
        for image in job.images:
            assert image.base64 is not None
            yield CompletedImage(
                type=f"{self.event}.completed",
                b64_json=image.base64,
                size=size_text((image.width, image.height)),
                output_format=image.format,
                usage=self.usage if image.index == 0 else Usage(),
                **self._repeated(),
            )

    def _repeated(self) -> dict[str, object]:
        return {
            "created_at": int(time.time()),
            "quality": self.asked.quality,
            "background": self.asked.background,
        }


def _data(image: ImageResponse) -> ImageData:
    flagged = image.finish_reason is not FinishReason.SUCCESS
    return ImageData(
        b64_json=image.base64,
        url=image.url,
        seed=image.seed,
        finish_reason=image.finish_reason if flagged else None,
    )
