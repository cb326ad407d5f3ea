"""The ControlNets of a request: which, what they are shown, how strongly and how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.request import ControlUse

if TYPE_CHECKING:
    from protocol.request.generation_params import GenerationParams, InputImage

MOST_NAMED = 20  # ControlNets that a refusal lists


def chosen_controls(
    draft: GenerationParams, card: ModelCard, images: Sequence[InputImage]
) -> tuple[ControlUse, ...]:
    """What `draft` wants, each with its image. Raises `InvalidRequest` for names that the card does
    not have, and for windows that end before they begin."""
    wanted = draft.controls or ()
    if len(images) != len(wanted):
        bound = f"as many as there are controls, {len(wanted)}"
        raise InvalidRequest("controls", f"{len(images)} images", bound, "missing-field")
    for i, control in enumerate(wanted):
        if control.model not in card.controlnets:
            bound = _what_there_is(card)
            raise InvalidRequest(f"controls.{i}.model", control.model, bound, "unknown-controlnet")
        if control.start > control.end:
            bound = f"up to its end, which is {control.end:g}"
            raise InvalidRequest(f"controls.{i}.start", control.start, bound, "control-interval")
    return tuple(
        ControlUse(
            model=control.model,
            image_key=image.key,
            weight=control.weight,
            start=control.start,
            end=control.end,
        )
        for control, image in zip(wanted, images, strict=True)
    )


def _what_there_is(card: ModelCard) -> str:
    if not card.controlnets:
        return f"absent: there are no ControlNets for {card.name}"
    more = len(card.controlnets) - MOST_NAMED
    names = ", ".join(card.controlnets[:MOST_NAMED])
    return f"one of {names}" + (f" and {more} more" if more > 0 else "")
