"""Settings of the worker, in addition to those it shares with the service."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.setting_types import FilePath, Host
from protocol.settings import Settings

LONGEST_NAME = 100


def _user_cache_dir() -> str:
    """Return the user's cache directory (XDG base directories)."""
    return os.environ.get("XDG_CACHE_HOME") or "~/.cache"


def _host_name() -> str:
    """Return the name of this machine, with other characters than a worker's name has replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:LONGEST_NAME] or "worker"


def _worker_name(name: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}", name):
        raise ValueError(f"1 to {LONGEST_NAME} characters out of A-Z a-z 0-9 . _ -")
    return name


class WorkerSettings(Settings):
    """Settings read from environment variables that begin with `DARKROOM_WORKER_`."""

    worker_name: Annotated[str, AfterValidator(_worker_name)] = Field(
        default_factory=_host_name,
        description="Prefix of the worker's name, by default the host name; a random part follows.",
    )
    worker_slots: int = Field(
        default=8, ge=1, le=256, description="Most images that are generated together."
    )
    worker_model_patience_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that jobs wait for a model before a busy model makes room for it.",
    )
    worker_attention: Literal[
        "auto", "sdpa", "reference", "cudnn", "flash", "efficient", "xformers", "flash3"
    ] = Field(
        default="auto",
        description="Attention kernel; auto chooses the fastest for each shape.",
    )
    worker_executor: Literal["auto", "eager", "openvino", "compile"] = Field(
        default="auto",
        description="Executor of the networks on a CPU; auto chooses the fastest.",
    )
    worker_precision: Literal["auto", "fp32", "bf16", "fp16", "fp8"] = Field(
        default="auto",
        description="Precision of the networks: fp32 or bf16 on a CPU, any but bf16 on a GPU.",
    )
    worker_lora_cache_mb: int = Field(
        default=2048,
        ge=0,
        description="MiB of memory for models with merged LoRAs, in addition to the models.",
    )
    worker_safety: Literal["flag", "blank", "off"] = Field(
        default="flag",
        description="A model's own safety checker: flag reports its finding, blank also blanks the "
        "image, off disables it.",
    )
    worker_same_bytes: bool = Field(
        default=True,
        description="Generate the same bytes for a request, alone or in a batch with others.",
    )
    worker_vae_tile: int | None = Field(
        default=None,
        ge=0,
        multiple_of=64,
        description="Images with a longer side are decoded in tiles of so many pixels, 0: none; "
        "by default only images that would need more than a quarter of the memory.",
    )
    worker_tune_s: float = Field(
        default=10.0,
        ge=0,
        description="Seconds for measurements at the first start; from 180 on, it also compiles.",
    )
    worker_cache: FilePath = Field(
        default_factory=lambda: Path(_user_cache_dir()) / "darkroom",
        description="Folder for converted networks and measurements, which later starts reuse.",
    )
    worker_lease_s: float = Field(
        default=6.0,
        gt=0,
        description="Seconds without a heartbeat after which a worker's jobs go to others.",
    )
    worker_heartbeat_s: float = Field(
        default=1.5, gt=0, description="Seconds between two renewals of the leases."
    )
    worker_reap_s: float = Field(
        default=1.0, gt=0, description="Seconds between two checks for jobs of dead workers."
    )
    worker_cancel_poll_s: float = Field(
        default=0.2, gt=0, description="Seconds between two checks for cancelled jobs."
    )
    worker_progress_s: float = Field(
        default=0.1, gt=0, description="Seconds between two reports of progress."
    )
    worker_max_crashes: int = Field(
        default=3, ge=3, description="Workers that a job may crash before it fails."
    )
    worker_priority_patience: int = Field(
        default=8,
        ge=1,
        description="Jobs that may overtake jobs of a lower priority before one of them is run.",
    )
    worker_sweep_s: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds between two deletions of expired objects from the store; "
        "one worker does it for all.",
    )
    worker_shutdown_grace_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds to finish running jobs at shutdown; the others are requeued.",
    )
    worker_delivery_threads: int = Field(
        default=4, ge=1, le=64, description="Threads that encode and store images."
    )
    worker_c2pa_certificate: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate chain, the signer's first, that signs image files "
        "with C2PA content credentials; without it files are not signed.",
    )
    worker_c2pa_key: FilePath | None = Field(
        default=None, description="PEM file of the private key of that certificate."
    )
    worker_store_patience_s: float = Field(
        default=900.0,
        ge=0,
        description="Seconds for which an unavailable object store is tried again.",
    )
    worker_metrics_host: Host = Field(
        default="127.0.0.1", description="Address that /metrics is served at."
    )
    worker_metrics_port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        description="Port of /metrics, 0: any free one; if it is taken, /metrics is not served.",
    )
    worker_stall_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds that a step may take; then the worker exits and others run its jobs.",
    )

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.worker_c2pa_certificate is None) != (self.worker_c2pa_key is None):
            given, missing = "worker_c2pa_certificate", "worker_c2pa_key"
            if self.worker_c2pa_certificate is None:
                given, missing = missing, given
            raise ValueError(
                f"{self.variable(missing)} is not set, but must be a file: "
                f"{self.variable(given)} is set"
            )
        return self

    @model_validator(mode="after")
    def _lease_covers_three_heartbeats(self) -> Self:
        self.check_at_most("worker_heartbeat_s", "worker_lease_s", times=3)
        return self
