"""The settings, read once from the environment and validated. Each program adds its own.

`REDIS_URL`, `OBJECT_STORE_URL`, `HOST` and `PORT` have their usual names; all others begin with
`DARKROOM_`.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from protocol.setting_types import (
    Device,
    FilePath,
    Host,
    HttpUrl,
    HubOwners,
    RedisUrl,
    StoreUrl,
    is_text,
)

PREFIX = "DARKROOM_"
MIN_S = 0.001  # of an interval or a timeout that is not 0
MAX_S = 365 * 86_400  # longer times overflow those of Redis, of threads or of dates
MAX_NUMBER = 2**53  # scripts in Redis count in doubles


def _user_data_dir() -> Path:
    """Return the directory of this user's data (XDG base directories)."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")


class LogFormat(StrEnum):
    """The format of logs. `auto`: text in a terminal, JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class Settings(BaseSettings):
    """The settings that the service and the worker share. An empty variable is as one not set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
    )

    redis_url: RedisUrl = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="The URL of Redis: redis://, rediss:// (TLS), unix://, redis+sentinel:// or "
        "redis+cluster://, with any password.",
    )
    object_store_url: StoreUrl = Field(
        default_factory=lambda: (Path.cwd() / "data" / "images").as_uri(),
        validation_alias=AliasChoices("OBJECT_STORE_URL", "object_store_url"),
        description="The URL of the store of images: file:///folder, s3://bucket, gs://…, az://…, memory:///.",
    )
    host: Host = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("HOST", "host"),
        description="The address the API listens on; :: is every address of IPv6 and IPv4.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("PORT", "port"),
        description="The port the API listens on; 0 takes any free one.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The model to serve: a folder or hub id; by default the bundled one.",
    )
    catalogue: FilePath | None = Field(
        default=None,
        description="A models.toml with several models to serve, in place of one.",
    )
    models_home: FilePath = Field(
        default_factory=lambda: _user_data_dir() / "darkroom",
        description="Folder of installed models and extra networks: models/, loras/, embeddings/, "
        "controlnets/, vaes/, unets/.",
    )
    install_owners: HubOwners = Field(
        default=(),
        description="Owners on the hub, with commas, whose models admins may install by request; "
        "a worker without it installs none.",
    )
    device: Device = Field(
        default="auto",
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
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info",
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
    otlp_endpoint: HttpUrl | None = Field(
        default=None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OTLP collector of traces, over HTTP (http://collector:4318); none by default.",
    )

    # Settings of which the first must not exceed the second where both are set.
    ORDERED: ClassVar[dict[str, str]] = {"job_timeout_s": "job_lifetime_s"}

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse numbers that no counter or clock takes, and text that is none."""
        texts = value if isinstance(value, tuple) else (value,)
        if not all(is_text(str(text)) for text in texts if isinstance(text, str | Path)):
            raise ValueError("text in UTF-8 without control characters")
        if isinstance(value, float | int) and str(info.field_name).endswith("_s"):
            if 0 < value < MIN_S:
                raise ValueError(f"at least {MIN_S:g} seconds")
            if value > MAX_S:
                raise ValueError(f"at most {MAX_S} seconds (a year)")
        if isinstance(value, int) and value > MAX_NUMBER:
            raise ValueError(f"at most {MAX_NUMBER}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for lesser, greater in self.ORDERED.items():
            if {lesser, greater} <= self.model_fields_set:
                self.check_at_most(lesser, greater)
        return self

    def check_at_most(self, lesser: str, greater: str, times: int = 1) -> None:
        """Raise ValueError if `times` the setting `lesser` is more than the setting `greater`.

        The message is about the one that is set; about `greater` if both are.
        """
        value, bound = getattr(self, lesser), getattr(self, greater)
        if value * times <= bound:
            return
        lesser_name, greater_name = self.variable(lesser), self.variable(greater)
        if greater in self.model_fields_set:
            factor = f"{times} times " if times > 1 else ""
            raise ValueError(
                f"{greater_name} is {bound}, but must be at least {value * times}, "
                f"{factor}{lesser_name}"
            )
        share = f"1/{times} of " if times > 1 else ""
        most = f"at most {bound / times:.15g}, {share}{greater_name}"
        raise ValueError(f"{lesser_name} is {value}, but must be {most}")

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a field."""
        alias = cls.model_fields[name].validation_alias
        return str(alias.choices[0]) if isinstance(alias, AliasChoices) else (PREFIX + name).upper()
