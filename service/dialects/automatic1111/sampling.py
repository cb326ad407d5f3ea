"""Samplers and schedules by AUTOMATIC1111's names, and the numbers that change a sampler."""

from protocol.errors import InvalidRequest
from protocol.recipes.a1111_names import (
    AUTOMATIC,
    automatic_schedule,
    our_sampler,
    our_schedule,
    sampler_label,
)
from protocol.request.model_card import ModelCard
from protocol.request.samplers import WITH_ETA
from service.dialects.automatic1111.errors import SamplerNotFound
from service.dialects.automatic1111.requests import Generation
from service.schemas.body_parser import Fields

# Our samplers that read these numbers in AUTOMATIC1111 (modules/sd_samplers_kdiffusion.py).
READ_CHURN = frozenset({"euler", "heun", "dpm2"})
READ_NOISE = frozenset(
    {
        *("euler_ancestral", "dpm2_ancestral", "dpmpp_2s_ancestral"),
        *("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"),
    }
)


def sampling_fields(body: Generation, card: ModelCard) -> Fields:
    """Return our sampler, schedule and eta; what is not named is the model's.

    An unknown sampler is refused, where AUTOMATIC1111 would use its first one. Raises
    `InvalidRequest`.
    """
    label = body.sampler_name or body.sampler_index
    if not label and not body.scheduler:
        return {} if body.eta is None else _eta(body, card.default_sampler)
    sampler, named = our_sampler(label) if label else (card.default_sampler, None)
    if sampler is None or sampler not in card.samplers:
        raise SamplerNotFound(label, map(sampler_label, card.samplers))
    schedule = _schedule(body.scheduler, sampler, named, card)
    return {"sampler": sampler, "schedule": schedule, **_eta(body, sampler)}


def _schedule(label: str, sampler: str, named: str | None, card: ModelCard) -> str:
    """Return our schedule. `named`: that of a sampler's name such as DPM++ 2M Karras.

    What is automatic is the schedule that AUTOMATIC1111 gives the sampler, or the model's own.
    """
    if label and label.lower() != AUTOMATIC.lower():
        found = label if label in card.schedules else our_schedule(sampler, label)
        return found or label  # an unknown one is refused with its own name
    wanted = named or automatic_schedule(sampler)
    return wanted if wanted in card.schedules else card.default_schedule


def _eta(body: Generation, sampler: str) -> Fields:
    """Return eta for the sampler that has it. Raises `InvalidRequest` for what would be lost."""
    _check(body, "s_min_uncond", 0)
    if sampler in READ_CHURN:
        _check(body, "s_churn", 0)
    if sampler in READ_NOISE:
        _check(body, "s_noise", 1)
        _check(body, "eta", 1)
    return {"eta": body.eta} if sampler == WITH_ETA and body.eta is not None else {}


def _check(body: Generation, field: str, only: int) -> None:
    value = getattr(body, field)
    if value not in (None, only):
        raise InvalidRequest(field, value, f"{only}, or left out", "not-supported")
