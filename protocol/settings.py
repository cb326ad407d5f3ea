"""The settings, read once from the environment, refusing nonsense. Each program adds its own.

`REDIS_URL`, `OBJECT_STORE_URL`, `HOST` and `PORT` go by the names everybody uses; all others begin
with `DARKROOM_`.
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
    """A variable that is there but empty, as containers often have them, is not set."""
    return value or None


def _user_data_dir() -> Path:
    """Where programs of this user keep what they were given (XDG base directories)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


class LogFormat(StrEnum):
    """`auto`: text where a person looks on (a terminal), JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class Settings(BaseSettings):
    """What the service and the worker both need to know."""

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
        description="Where Redis is: redis://, rediss:// (TLS), unix://, redis+sentinel:// or "
        "redis+cluster://, with any password.",
    )
    object_store_url: Annotated[str, AfterValidator(_store_url)] = Field(
        default_factory=lambda: (Path.cwd() / "data" / "images").as_uri(),
        validation_alias=AliasChoices("OBJECT_STORE_URL"),
        description="Where pictures are kept: file:///folder, s3://bucket, gs://…, az://…, memory:///.",
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
        description="The model to serve: a folder or hub id; by default the one that comes along.",
    )
    catalogue: Annotated[Path | None, BeforeValidator(or_none)] = Field(
        default=None,
        description="A models.toml that declares several models to serve, in place of one.",
    )
    models_home: Path = Field(
        default_factory=lambda: _user_data_dir() / "darkroom",
        description="Folder of what the operator has added: models/, loras/, embeddings/, "
        "controlnets/, vaes/, unets/.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="Where the model runs: auto (the best there is), cpu, cuda, cuda:1, mps.",
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
        description="How events are logged: json, text, or auto (text where a terminal listens).",
    )
    log_prompts: bool = Field(
        default=False,
        description="Whether prompts are logged, by the API as a job is accepted.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Where traces go, by OTLP over HTTP (http://collector:4318); none by default.",
    )
