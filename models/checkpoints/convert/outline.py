"""The outline of a pickle: a safetensors file with its header, and a hole in place of its weights.

Whatever inspects a file by its header inspects the outline. The pickle is read in the child process
with the limits of a conversion.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from models.checkpoints.convert.child_process import run_child
from models.checkpoints.convert.safetensors_writer import write_outline
from models.checkpoints.detect.original_plans import NUMBERS
from models.checkpoints.detect.training_facts import configuration_file
from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import PEFT_CONFIG
from models.checkpoints.readers.weights_file import PICKLES, read_weights


def is_pickle(path: Path) -> bool:
    """Return True for an existing file with the suffix of a pickle."""
    return path.suffix in PICKLES and path.is_file()


def outline_of(path: Path, folder: Path) -> Path:
    """Write the outline of the pickle at `path` into a folder of its parent's name in `folder`.

    A configuration next to it is copied, because it says what the tensors do not. Raises
    CheckpointError.
    """
    path = path.absolute()
    outline = folder / path.parent.name / f"{path.stem}.safetensors"
    outline.parent.mkdir(parents=True, exist_ok=True)
    if configuration := configuration_file(path):
        shutil.copyfile(configuration, outline.with_suffix(".yaml"))
    run_child({"outline": str(outline), "source": str(path)}, path, outline.parent)
    return outline


def make_outline(source: Path, target: Path) -> None:
    """Read a pickle and write its outline, in the child process. Raises CheckpointError."""
    if source.with_name(PEFT_CONFIG).is_file():
        raise CheckpointError(f"{source.name} belongs to its folder: check {source.parent}")
    tensors = read_weights(source)
    write_outline(target, tensors, [key for key in NUMBERS if key in tensors])
