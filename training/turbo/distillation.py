"""The LoRA of a model folder: its training and its file."""

from __future__ import annotations

from pathlib import Path

from training.checkpointing import images_seen, write_images_seen
from training.continued import continued_stage
from training.data import EmojiImages
from training.runner import Cadence, run
from training.turbo.consistency_stage import ConsistencyStage

#: Where the LoRA lies in the model's folder.
TURBO_FILE = Path("loras") / "turbo.safetensors"
# Of the trained change. Guidance at every level of the teacher makes colours too strong: with half
# of the change more names are recognised (DECISIONS.md).
STRENGTH = 0.5


def distil(
    folder: Path,
    art: EmojiImages,
    work: Path,
    steps: int,
    batch_size: int,
    cadence: Cadence | None = None,
) -> None:
    """Train the LoRA of the model in `folder`, and write its file and its record there."""
    stage = ConsistencyStage(continued_stage(folder, art, batch_size))
    done = run(stage, work, steps, cadence)
    stage.ema.swap()
    stage.student.save(folder / TURBO_FILE, STRENGTH)
    seen = images_seen(folder) | {"turbo": done * batch_size}
    write_images_seen(folder, seen)
    print(f"{folder / TURBO_FILE}: images seen: {seen}")
