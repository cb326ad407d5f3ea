"""The options that requests depend on: a client's own, and those of one request."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, JsonValue

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_CLIP_SKIP
from protocol.request.model_card import SHORT_HASH, ModelCard, canonical_name
from protocol.request.object_keys import OutputFormat
from service.dialects.automatic1111.requests import Generation, WebuiBody, parse_body
from service.schemas.body_parser import Fields

HASH = re.compile(r" \[([0-9a-fA-F]+)\]$")  # of a checkpoint's title
BARE_HASH = re.compile(rf"[0-9a-fA-F]{{{SHORT_HASH}}}|[0-9a-fA-F]{{64}}")
FILE = re.compile(r"\.(safetensors|ckpt|pt)$", re.IGNORECASE)
FORMATS = {"jpg": OutputFormat.JPEG, **{kind.value: kind for kind in OutputFormat}}
NO_VAE = ("", "automatic", "none")


class Options(WebuiBody):
    """The options that have an effect. All others are accepted and ignored."""

    sd_model_checkpoint: str = Field(
        default="", max_length=400, description="A title of /sdapi/v1/sd-models."
    )
    sd_vae: str = Field(default="Automatic", max_length=400, description="Automatic or None only.")
    CLIP_stop_at_last_layers: int = Field(default=1, ge=1, le=MAX_CLIP_SKIP + 1)
    samples_format: str = Field(default="png", max_length=20)
    jpeg_quality: int = Field(default=80, ge=1, le=100)
    live_previews_enable: bool = Field(
        default=False, description="Whether /sdapi/v1/progress shows the image while it is made."
    )
    initial_noise_multiplier: float = Field(default=1.0, ge=0, le=1.5)
    eta_noise_seed_delta: int = Field(default=0, ge=0, le=0, description="0 only.")
    forge_additional_modules: list[Any] = Field(default=[], max_length=0)


SHOWN = Options.model_fields.keys() - {"forge_additional_modules"}


def parse_options(fields: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return those of `fields` that have an effect. Raises `InvalidRequest` for wrong values."""
    known = {name: value for name, value in fields.items() if name in Options.model_fields}
    options = parse_body(Options, known)
    if options.samples_format.lower() not in FORMATS:
        bound = f"one of {', '.join(FORMATS)}"
        raise InvalidRequest("samples_format", options.samples_format, bound, "unknown-choice")
    if options.sd_vae.lower() not in NO_VAE:
        bound = "Automatic or None: each model has its own here"
        raise InvalidRequest("sd_vae", options.sd_vae, bound, "unknown-choice")
    return options.model_dump(exclude_unset=True)


def effective_options(chosen: Mapping[str, JsonValue], body: Generation) -> Options:
    """Return the options of a request: the client's own, and what it overrides."""
    short = {"sd_model_checkpoint": body.model, "CLIP_stop_at_last_layers": body.clip_skip}
    given = {name: value for name, value in short.items() if value}
    overridden = {name: value for name, value in body.override_settings.items() if value != ""}
    if overridden:
        overridden = parse_options(overridden)
    return parse_body(Options, {**chosen, **given, **overridden})


def spellings(title: str) -> tuple[str, ...]:
    """Return the names that a checkpoint's title, or its file name, may stand for."""
    name = HASH.sub("", title)
    return title, name, FILE.sub("", name)


def model_named(title: str, cards: Mapping[str, ModelCard]) -> str:
    """Return the model with a title; a title that no model has is returned as it is."""
    found = (canonical_name(spelling, cards) for spelling in spellings(title))
    return (
        next((name for name in found if name is not None), None) or _hashed(title, cards) or title
    )


def _hashed(title: str, cards: Mapping[str, ModelCard]) -> str | None:
    """Return the model whose hash is the title, or stands in it."""
    bracketed = HASH.search(title)
    digits = (bracketed[1] if bracketed else title).lower()
    if not BARE_HASH.fullmatch(digits):
        return None
    named = (name for name, card in cards.items() if digits in (card.short_hash, card.sha256))
    return next(named, None)


def option_fields(options: Options, model: str | None) -> Fields:
    """Return our fields of the options of a request."""
    skipped = options.CLIP_stop_at_last_layers - 1  # layers beyond those that the model skips
    return {
        **({"model": model} if model else {}),
        **({"clip_skip": skipped} if skipped else {}),
        **file_fields(options),
        "previews": options.live_previews_enable,
    }


def file_fields(options: Options) -> Fields:
    """Return our fields of the format of files."""
    file_format = FORMATS[options.samples_format.lower()]
    if file_format is OutputFormat.PNG:
        return {"output_format": file_format.value}
    return {"output_format": file_format.value, "quality": options.jpeg_quality}
