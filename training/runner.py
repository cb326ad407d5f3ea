"""Loop around any training stage: resuming, progress, logs, sample grids and checkpoints."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import torch
from PIL import Image
from tqdm import tqdm

from training import checkpointing


class Stage(Protocol):
    """One kind of training. Only `step` changes its parts."""

    generator: torch.Generator

    def parts(self) -> Mapping[str, checkpointing.Stateful]:
        """Return all state that must survive a restart, by name."""
        ...

    def step(self, step: int, total_steps: int) -> dict[str, float]:
        """Run step number `step` of `total_steps` and return losses to log."""
        ...

    def grid(self) -> Image.Image:
        """Return sample images of the current state as one image."""
        ...


@dataclass(frozen=True)
class Cadence:
    """Intervals of a run's files: grids and log lines in steps, checkpoints in seconds.

    After `limit_s` seconds a run ends as on a signal.
    """

    grid_steps: int = 500
    save_s: float = 180.0
    log_steps: int = 20
    limit_s: float = math.inf


def learning_rate(
    step: int, total_steps: int, peak: float, warmup: int = 200, cooldown: float = 0.3
) -> float:
    """Return the rate: `peak` after a linear warm-up, then linear to 0 in the `cooldown` share."""
    rising = (step + 1) / warmup
    falling = (total_steps - step) / (cooldown * total_steps)
    return peak * max(0.0, min(1.0, rising, falling))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group of `optimizer`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def stop_request() -> Iterator[Event]:
    """Yield an event that SIGINT and SIGTERM set instead of ending the process."""
    requested = Event()
    handlers = {
        number: signal.signal(number, lambda *_: requested.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield requested
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run(stage: Stage, folder: Path, total_steps: int, cadence: Cadence | None = None) -> int:
    """Train `stage` up to `total_steps`, starting from the last checkpoint in `folder`.

    Return the steps that were done. On SIGINT or SIGTERM, or when its time is over, finish the
    step, save a checkpoint and return.
    """
    cadence = cadence or Cadence()
    checkpoint = folder / "checkpoint.pt"
    start = checkpointing.resume(checkpoint, stage.generator, stage.parts())
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    started = saved_at = time.monotonic()
    with stop_request() as stop, (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        bar = tqdm(range(start, total_steps), initial=start, total=total_steps, desc=folder.name)
        for step in bar:
            losses = stage.step(step, total_steps)
            done = step + 1
            if done % cadence.log_steps == 0:
                bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
                log.write(json.dumps({"step": done, "time": time.time(), **losses}) + "\n")
                log.flush()
            late = time.monotonic() - started > cadence.limit_s
            last = done == total_steps or late or stop.is_set()
            if done % cadence.grid_steps == 0 or done == total_steps:
                stage.grid().save(folder / "grids" / f"{done:07d}.png")
            if last or time.monotonic() - saved_at > cadence.save_s:
                checkpointing.save(checkpoint, done, stage.generator, stage.parts())
                saved_at = time.monotonic()
            if last:
                return done
    return start
