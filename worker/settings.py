"""The worker's own settings, beside those it shares with the service."""

import os
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from protocol.settings import Settings


def _user_cache_dir() -> str:
    """Where programs of this user keep what they can make again (XDG base directories)."""
    return os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


class WorkerSettings(Settings):
    """All begin with `DARKROOM_WORKER_`, but those of the base class."""

    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="How a worker's name begins (by default the machine's); the rest is drawn.",
    )
    worker_slots: int = Field(
        default=8, ge=1, le=256, description="Pictures that are drawn together, at most."
    )
    worker_model_patience_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that jobs wait for a model before a busy one makes room for it.",
    )
    worker_attention: str = Field(
        default="auto",
        pattern=r"^(auto|sdpa|reference|cudnn|flash|efficient|xformers|flash3)$",
        description="The attention kernel; auto takes what measures fastest for each shape.",
    )
    worker_executor: Literal["auto", "eager", "openvino", "compile"] = Field(
        default="auto",
        description="What runs the networks on a CPU; auto takes what measures fastest.",
    )
    worker_precision: Literal["auto", "fp32", "bf16", "fp16", "fp8"] = Field(
        default="auto",
        description="Precision of the networks: fp32 or bf16 on a CPU, any but bf16 on a GPU.",
    )
    worker_lora_cache_mb: int = Field(
        default=2048,
        ge=0,
        description="Memory, in MiB, for models with LoRAs merged, beside the models themselves.",
    )
    worker_safety: Literal["flag", "blank", "off"] = Field(
        default="flag",
        description="What a model's own safety checker is for: flag says what it found, blank also "
        "hides the picture, off leaves it out.",
    )
    worker_same_bytes: bool = Field(
        default=True,
        description="Whether a request gives the same bytes whoever else is being served.",
    )
    worker_vae_tile: int | None = Field(
        default=None,
        ge=0,
        multiple_of=64,
        description="Pictures with a longer side are decoded in tiles of so many pixels, 0: never; "
        "by default only those that would need more than a quarter of the memory.",
    )
    worker_tune_s: float = Field(
        default=10.0,
        ge=0,
        description="Seconds a first start may spend on measuring; from 180 on, it also compiles.",
    )
    worker_cache: Path = Field(
        default_factory=lambda: Path(_user_cache_dir()) / "darkroom",
        description="Folder for converted networks and measurements, so that they are made once.",
    )
    worker_lease_s: float = Field(
        default=6.0,
        gt=0,
        description="Seconds after which a silent worker's jobs are given to others.",
    )
    worker_heartbeat_s: float = Field(
        default=1.5, gt=0, description="Seconds between two renewals of the leases."
    )
    worker_reap_s: float = Field(
        default=1.0, gt=0, description="Seconds between two looks for jobs of dead workers."
    )
    worker_cancel_poll_s: float = Field(
        default=0.2, gt=0, description="Seconds between two looks for running jobs to be stopped."
    )
    worker_progress_s: float = Field(
        default=0.1, gt=0, description="Seconds between two reports of progress."
    )
    worker_max_crashes: int = Field(
        default=3, ge=3, description="Workers a job may bring down before it fails."
    )
    worker_priority_patience: int = Field(
        default=8,
        ge=1,
        description="Jobs that may overtake those of a lower priority before these have a turn.",
    )
    worker_sweep_s: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds between two sweeps of the store for what has expired; "
        "one worker does it for all.",
    )
    worker_shutdown_grace_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds to finish what runs when asked to stop; the rest is handed back.",
    )
    worker_delivery_threads: int = Field(
        default=4, ge=1, le=64, description="Threads that encode and store pictures."
    )
    worker_store_patience_s: float = Field(
        default=900.0,
        ge=0,
        description="Seconds for which an object store that is away is tried again.",
    )
    worker_metrics_host: str = Field(
        default="127.0.0.1", description="The address /metrics is served at."
    )
    worker_metrics_port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        description="Port of /metrics; a worker that finds it taken goes on without. 0: any free.",
    )
    worker_stall_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds a single step may take; beyond, the worker ends and its jobs move on.",
    )

    @model_validator(mode="after")
    def _heartbeats_fit_the_lease(self) -> Self:
        if self.worker_heartbeat_s * 3 > self.worker_lease_s:
            raise ValueError("a lease must last for three heartbeats at least")
        return self
