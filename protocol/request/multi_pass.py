"""The second pass over an image: by a refiner, or at a larger size (hires fix)."""

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.request import HiresFix, Refinement
from protocol.request.sizes import Size

REFINER_START = 0.8
HIRES_STRENGTH = 0.7


def resolve_refinement(params: GenerationParams, card: ModelCard, steps: int) -> Refinement | None:
    """Return the pass by a refiner, if asked for.

    Raises `InvalidRequest` for a refiner that this model does not have.
    """
    if params.refiner is None:
        _check_absent(params, ("refiner_start",), "refiner")
        return None
    if params.refiner not in card.refiners:
        offered = f"one of {', '.join(card.refiners)}" if card.refiners else "absent"
        bound = f"{offered}, for {card.name}"
        raise InvalidRequest("refiner", params.refiner, bound, "unknown-refiner")
    if params.hires_scale is not None:
        raise InvalidRequest(
            "hires_scale", params.hires_scale, "absent together with refiner", "two-passes"
        )
    if steps < 2:
        raise InvalidRequest("steps", steps, "at least 2, where a refiner takes the last", "steps")
    return Refinement(model=params.refiner, start=params.refiner_start or REFINER_START)


def resolve_hires_fix(
    params: GenerationParams, card: ModelCard, size: Size, steps: int
) -> HiresFix | None:
    """Return the pass at a larger size, if asked for.

    Raises `InvalidRequest` for a size that the model cannot generate, or too many steps.
    """
    if params.hires_scale is None:
        _check_absent(params, ("hires_steps", "hires_strength"), "hires_scale")
        return None
    unit = card.size_multiple
    width, height = (round(side * params.hires_scale / unit) * unit for side in size)
    if not card.allows_size(width, height):
        bound = (
            f"so that {width}x{height} has sides up to {card.max_side} "
            f"and at most {card.max_pixels} pixels"
        )
        raise InvalidRequest("hires_scale", params.hires_scale, bound, "too-many-pixels")
    steps = params.hires_steps or steps
    if steps > card.max_steps:
        raise InvalidRequest("hires_steps", steps, f"at most {card.max_steps}", "too-many-steps")
    strength = params.hires_strength or HIRES_STRENGTH
    check_strength("hires_strength", strength, steps)
    return HiresFix(width=width, height=height, steps=steps, strength=strength)


def check_strength(field: str, strength: float, steps: int) -> None:
    """Raise `InvalidRequest` if `strength` leaves none of the `steps`."""
    if int(steps * strength) < 1:
        bound = f"at least {1 / steps:.4g}, one of {steps} steps"
        raise InvalidRequest(field, strength, bound, "strength-too-small")


def checked_aesthetic_score(params: GenerationParams, card: ModelCard) -> float | None:
    """Return the aesthetic score. Raises `InvalidRequest` if no network reads it."""
    score = params.aesthetic_score
    if score is not None and params.refiner is None and not card.reads_aesthetic_score:
        bound = f"absent: {card.name} reads none"
        raise InvalidRequest("aesthetic_score", score, bound, "not-for-this-model")
    return score


def _check_absent(params: GenerationParams, fields: tuple[str, ...], without: str) -> None:
    for field in fields:
        if (value := getattr(params, field)) is not None:
            bound = f"absent, as {without} is"
            raise InvalidRequest(field, value, bound, "not-without-another")
