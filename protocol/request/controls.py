"""The ControlNets of a request, each with its control image, weight and interval."""

from collections.abc import Sequence

from protocol.errors import InvalidRequest
from protocol.record import common_fields
from protocol.request.bounds import exact
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.model_card import ModelCard, offered_names
from protocol.request.request import ControlUse


def resolve_controls(
    params: GenerationParams, card: ModelCard, images: Sequence[InputImage]
) -> tuple[ControlUse, ...]:
    """Return the ControlNets of `params`, each with its control image.

    Raises `InvalidRequest` for names that the card does not have, and for intervals that end
    before they start.
    """
    controls = params.controls or ()
    if len(images) != len(controls):
        bound = f"as many as there are controls, {len(controls)}"
        raise InvalidRequest("controls", f"{len(images)} images", bound, "missing-field")
    for i, control in enumerate(controls):
        if control.model not in card.controlnets:
            bound = offered_names("ControlNets", card.controlnets, card, control.model)
            raise InvalidRequest(f"controls.{i}.model", control.model, bound, "unknown-controlnet")
        if control.start > control.end:
            bound = f"up to its end, which is {exact(control.end)}"
            raise InvalidRequest(f"controls.{i}.start", control.start, bound, "control-interval")
    return tuple(
        ControlUse.model_validate(common_fields(control, ControlUse) | {"image_key": image.key})
        for control, image in zip(controls, images, strict=True)
    )
