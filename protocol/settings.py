"""The settings, read once from the environment and validated. Each program adds its own.

`REDIS_URL`, `OBJECT_STORE_URL`, `HOST` and `PORT` have their usual names; all others begin with
`DARKROOM_`.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from protocol.connection.topology import CLUSTER, SENTINEL, Topology, has_topology

PLAIN_SCHEMES = ("redis", "rediss")
REDIS_SCHEMES = (
    *PLAIN_SCHEMES,
    "unix",
    *(f"{scheme}{kind}" for kind in (SENTINEL, CLUSTER) for scheme in PLAIN_SCHEMES),
)
STORE_SCHEMES = ("file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss")


def _redis_url(url: str) -> str:
    if urlsplit(url).scheme not in REDIS_SCHEMES:
        raise ValueError(
            f"must begin with one of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}"
        )
    if has_topology(url):
        Topology.read(url)
    return url


def _store_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in STORE_SCHEMES:
        raise ValueError(
            f"must begin with one of {', '.join(f'{scheme}://' for scheme in STORE_SCHEMES)}"
        )
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise ValueError("a folder is given by its whole path, as in file:///var/lib/darkroom")
    return url


def or_none(value: object) -> object:
    """Return None for an empty variable: containers often have variables that are set but empty."""
    return value or None


def _user_data_dir() -> Path:
    """Return the directory of this user's data (XDG base directories)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


class LogFormat(StrEnum):
    """The format of logs. `auto`: text in a terminal, JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class Settings(BaseSettings):
    """The settings that the service and the worker share."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_",
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
    )

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("REDIS_URL"),
        description="The URL of Redis: redis://, rediss:// (TLS), unix://, redis+sentinel:// or "
        "redis+cluster://, with any password.",
    )
    object_store_url: Annotated[str, AfterValidator(_store_url)] = Field(
        default_factory=lambda: (Path.cwd() / "data" / "images").as_uri(),
        validation_alias=AliasChoices("OBJECT_STORE_URL"),
        description="The URL of the store of images: file:///folder, s3://bucket, gs://…, az://…, memory:///.",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("HOST"),
        description="The address the API listens on.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("PORT"),
        description="The port the API listens on; 0 takes any free one.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The model to serve: a folder or hub id; by default the bundled one.",
    )
    catalogue: Annotated[Path | None, BeforeValidator(or_none)] = Field(
        default=None,
        description="A models.toml with several models to serve, in place of one.",
    )
    models_home: Path = Field(
        default_factory=lambda: _user_data_dir() / "darkroom",
        description="Folder of installed models and extra networks: models/, loras/, embeddings/, "
        "controlnets/, vaes/, unets/.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="The device of the model: auto (the best available), cpu, cuda, cuda:1, mps.",
    )
    max_queue_length: int = Field(
        default=256, ge=1, description="Jobs that may wait for one model; more are refused (429)."
    )
    max_queue_per_client: int = Field(
        default=64,
        ge=1,
        description="Of these, jobs of one client; more are refused (429).",
    )
    result_ttl_s: int = Field(
        default=3600, ge=60, description="Seconds for which a finished job can be asked for."
    )
    failure_ttl_s: int = Field(
        default=3600,
        ge=60,
        description="Seconds for which a failed or cancelled job can be asked for.",
    )
    job_lifetime_s: int = Field(
        default=86400,
        ge=60,
        description="Seconds after which a job that has not ended is dropped, waiting or not.",
    )
    job_timeout_s: int = Field(
        default=1200, ge=1, description="Seconds a job may take once a worker has begun it."
    )
    log_level: str = Field(
        default="info",
        pattern=r"^(debug|info|warning|error|critical)$",
        description="The least important events that are logged: debug, info, warning, error.",
    )
    log_format: LogFormat = Field(
        default=LogFormat.AUTO,
        description="How events are logged: json, text, or auto (text in a terminal).",
    )
    log_prompts: bool = Field(
        default=False,
        description="Whether the API logs the prompt of each accepted job.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OTLP collector of traces, over HTTP (http://collector:4318); none by default.",
    )
