"""A second pass over a picture: by a refiner, or by the same model at a larger size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.request import HiresFix, Refinement

if TYPE_CHECKING:
    from protocol.request.generation_params import GenerationParams

REFINER_START = 0.8
HIRES_STRENGTH = 0.7


def refinement(draft: GenerationParams, card: ModelCard, steps: int) -> Refinement | None:
    """Raises `InvalidRequest` for a refiner that this model does not have."""
    if draft.refiner is None:
        _absent(draft, ("refiner_start",), "refiner")
        return None
    if draft.refiner not in card.refiners:
        there_are = f"one of {', '.join(card.refiners)}" if card.refiners else "absent"
        bound = f"{there_are}, for {card.name}"
        raise InvalidRequest("refiner", draft.refiner, bound, "unknown-refiner")
    if draft.hires_scale is not None:
        raise InvalidRequest(
            "hires_scale", draft.hires_scale, "absent beside refiner", "two-passes"
        )
    if steps < 2:
        raise InvalidRequest("steps", steps, "at least 2, where a refiner takes the last", "steps")
    return Refinement(model=draft.refiner, start=draft.refiner_start or REFINER_START)


def enlargement(
    draft: GenerationParams, card: ModelCard, size: tuple[int, int], steps: int
) -> HiresFix | None:
    """Raises `InvalidRequest` for a size that the model cannot draw, or too many steps."""
    if draft.hires_scale is None:
        _absent(draft, ("hires_steps", "hires_strength"), "hires_scale")
        return None
    unit = card.size_multiple
    width, height = (round(side * draft.hires_scale / unit) * unit for side in size)
    if not card.allows_size(width, height):
        bound = (
            f"so that {width}x{height} has sides up to {card.max_side} "
            f"and at most {card.max_pixels} pixels"
        )
        raise InvalidRequest("hires_scale", draft.hires_scale, bound, "too-many-pixels")
    steps = draft.hires_steps or steps
    if steps > card.max_steps:
        raise InvalidRequest("hires_steps", steps, f"at most {card.max_steps}", "too-many-steps")
    strength = draft.hires_strength or HIRES_STRENGTH
    if int(steps * strength) < 1:
        bound = f"at least {1 / steps:.4g}, one of {steps} steps"
        raise InvalidRequest("hires_strength", strength, bound, "strength-too-small")
    return HiresFix(width=width, height=height, steps=steps, strength=strength)


def aesthetic_score(draft: GenerationParams, card: ModelCard) -> float | None:
    """Raises `InvalidRequest` if no network would read it."""
    given = draft.aesthetic_score
    if given is not None and draft.refiner is None and not card.reads_aesthetic_score:
        bound = f"absent: {card.name} reads none"
        raise InvalidRequest("aesthetic_score", given, bound, "not-for-this-model")
    return given


def _absent(draft: GenerationParams, fields: tuple[str, ...], without: str) -> None:
    for field in fields:
        if (value := getattr(draft, field)) is not None:
            bound = f"absent, as {without} is"
            raise InvalidRequest(field, value, bound, "not-without-another")
