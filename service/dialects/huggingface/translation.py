"""Translation of Hugging Face's requests to our fields."""

from collections.abc import Mapping

from anyio import to_thread

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from service.dialects.diffusion_fields import extra_fields
from service.dialects.huggingface.requests import (
    INPUTS,
    MASK,
    PARAMETERS,
    PROMPT,
    InferenceRequest,
)
from service.dialects.lenient import integer
from service.dialects.sizes import fitted, size_in
from service.routes.deps import Services
from service.schemas.body_parser import Fields

TARGET_SIZE = f"{PARAMETERS}.target_size"
SIDES = ("width", "height")
FILE_FIELDS = ("output_format", "quality")


async def translate(
    asked: InferenceRequest, card: ModelCard, services: Services
) -> tuple[Fields, dict[str, str]]:
    """Return a request in our fields, and the client's names of them.

    Raises `InvalidRequest` and `DecodingBusy`.
    """
    ours, theirs = extra_fields(asked.parameters, asked.task)
    names = {field: f"{PARAMETERS}.{name}" for field, name in theirs.items()}
    ours["model"] = card.name
    ours |= {name: asked.parameters[name] for name in FILE_FIELDS if name in asked.parameters}
    if isinstance(asked.inputs, str):
        return {**ours, "prompt": asked.inputs}, {**names, "prompt": INPUTS}
    if target := _target_size(asked.parameters):
        ours |= target
        names |= {side: f"{TARGET_SIZE}.{side}" for side in SIDES}
    image = await to_thread.run_sync(
        services.submitter.images.open, INPUTS, asked.inputs, limiter=services.decoding
    )
    ours |= fitted(image.size, size_in(ours), ours, card)
    ours |= {"prompt": asked.parameters.get("prompt", ""), "image": asked.inputs}
    if asked.mask is not None:
        ours["mask"] = asked.mask
    return ours, {**names, "prompt": PROMPT, "image": INPUTS, "mask": MASK}


def _target_size(parameters: Fields) -> Fields:
    """Return the sides that a request with an image asks for. Raises `InvalidRequest`."""
    asked = parameters.get("target_size")
    if asked is None:
        return {}
    if not isinstance(asked, Mapping) or not all(side in asked for side in SIDES):
        raise InvalidRequest(TARGET_SIZE, asked, "an object with width and height", "wrong-type")
    return {side: integer(asked[side]) for side in SIDES}
