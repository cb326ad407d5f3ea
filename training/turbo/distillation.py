"""The LoRA of a model folder: its training and its file."""

from __future__ import annotations

from pathlib import Path

from training.continued import continued_stage
from training.data import EmojiImages
from training.runner import Cadence, run
from training.turbo.consistency_stage import ConsistencyStage

#: Where the LoRA lies in the model's folder.
TURBO_FILE = Path("loras") / "turbo.safetensors"


def distil(
    folder: Path,
    art: EmojiImages,
    work: Path,
    steps: int,
    batch_size: int,
    cadence: Cadence | None = None,
) -> None:
    """Train the LoRA of the model in `folder` and write its file there."""
    stage = ConsistencyStage(continued_stage(folder, art, batch_size))
    done = run(stage, work, steps, cadence)
    stage.ema.swap()
    stage.student.save(folder / TURBO_FILE)
    print(f"{folder / TURBO_FILE}: {done} steps of {batch_size} images")
