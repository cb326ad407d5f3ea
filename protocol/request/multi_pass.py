"""The second pass over an image: by a refiner, or at a larger size (hires fix)."""

import math

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.request import HiresFix, Refinement
from protocol.request.samplers import LATENT_MODES
from protocol.request.sizes import Size
from protocol.request.upscaling import check_upscaler

REFINER_START = 0.8
HIRES_STRENGTH = 0.7


def resolve_refinement(params: GenerationParams, card: ModelCard, steps: int) -> Refinement | None:
    """Return the pass by a refiner, if asked for.

    Raises `InvalidRequest` for a refiner that this model does not have.
    """
    if params.refiner is None:
        check_absent(params, ("refiner_start",), "refiner")
        return None
    if params.refiner not in card.refiners:
        offered = f"one of {', '.join(card.refiners)}" if card.refiners else "absent"
        bound = f"{offered}, for {card.name}"
        raise InvalidRequest("refiner", params.refiner, bound, "unknown-refiner")
    if params.hires_scale is not None:
        raise InvalidRequest(
            "hires_scale", params.hires_scale, "absent together with refiner", "two-passes"
        )
    if steps < 2 and params.steps is None:
        bound = f"absent: {card.name} takes {steps} step by default, and the refiner the last one"
        raise InvalidRequest("refiner", params.refiner, bound, "too-few-steps")
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
        check_absent(params, ("hires_steps", "hires_strength", "hires_upscaler"), "hires_scale")
        return None
    width, height = scaled_size(size, params.hires_scale, card)
    if not card.allows_size(width, height):
        largest = exact(largest_scale(size, params.hires_scale, card))
        bound = (
            f"at most {largest}, so that the sides are up to {card.max_side} "
            f"and the pixels at most {card.max_pixels}"
        )
        raise InvalidRequest("hires_scale", params.hires_scale, bound, "too-many-pixels")
    strength = params.hires_strength or HIRES_STRENGTH
    if params.hires_steps is not None:
        steps = params.hires_steps
    elif params.hires_strength is None:
        steps = max(steps, least_steps(strength))
    if steps > card.max_steps:
        raise InvalidRequest("hires_steps", steps, f"at most {card.max_steps}", "too-many-steps")
    check_strength(params, "hires_strength", strength, "hires_steps", steps)
    upscaler = params.hires_upscaler
    if upscaler is not None:
        check_upscaler("hires_upscaler", upscaler, card, LATENT_MODES)
    return HiresFix(width=width, height=height, steps=steps, strength=strength, upscaler=upscaler)


def scaled_size(size: Size, scale: float, card: ModelCard) -> Size:
    """Return `size` times `scale`, in multiples that the model can generate."""
    unit = card.size_multiple
    width, height = (round(side * scale / unit) * unit for side in size)
    return width, height


def largest_scale(size: Size, too_large: float, card: ModelCard) -> float:
    """Return the largest scale that `card` allows for `size`, found by bisection."""
    allowed = 1.0
    while allowed < (middle := (allowed + too_large) / 2) < too_large:
        if card.allows_size(*scaled_size(size, middle, card)):
            allowed = middle
        else:
            too_large = middle
    return allowed


def check_strength(
    params: GenerationParams, field: str, strength: float, steps_field: str, steps: int
) -> None:
    """Raise `InvalidRequest` if `strength` leaves none of the `steps`.

    The error names the strength if it was sent, else the steps.
    """
    if int(steps * strength) >= 1:
        return
    if getattr(params, field) is not None:
        bound = f"at least {exact(least_strength(steps))}, one of {steps} steps"
        raise InvalidRequest(field, strength, bound, "strength-too-small")
    bound = f"at least {least_steps(strength)}, for {field} is {exact(strength)} by default"
    raise InvalidRequest(steps_field, steps, bound, "too-few-steps")


def least_strength(steps: int) -> float:
    """Return the smallest strength that leaves one of the `steps`, exactly."""
    strength = 1 / steps
    while int(steps * strength) < 1:
        strength = math.nextafter(strength, 1)
    while int(steps * (below := math.nextafter(strength, 0))) >= 1:
        strength = below
    return strength


def least_steps(strength: float) -> int:
    """Return the smallest number of steps of which `strength` leaves one."""
    steps = math.ceil(1 / strength)
    return steps if int(steps * strength) >= 1 else steps + 1


def check_absent(params: GenerationParams, fields: tuple[str, ...], without: str) -> None:
    """Raise `InvalidRequest` for the fields that have no effect without the field `without`."""
    for field in fields:
        if (value := getattr(params, field)) is not None:
            bound = f"absent, as {without} is"
            raise InvalidRequest(field, value, bound, "not-without-another")
