"""`darkroom models check`: report the kind of a checkpoint, its memory and its problems."""

import argparse
from pathlib import Path

from darkroom.arguments import text
from darkroom.terminal import TextConsole
from protocol.startup import read_settings

HELP = "report what a checkpoint is and what is wrong with it"


class CannotCheck(RuntimeError):
    """The source is missing or is not a checkpoint."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Read the headers and configuration files of a model or extra network. Report its kind, "
        "the memory of its weights, the served models that it fits, and every key that is missing, "
        "unexpected or of the wrong shape. No weights are read; from the hub only the small files "
        "and the headers are downloaded. A pickle (.ckpt, .pt, .pth, .bin) is read in a separate "
        "process with resource limits, and no code in it is executed."
    )
    parser.epilog = "exit status: 0 if the checkpoint is sound, else 1"
    parser.add_argument(
        "source",
        type=text,
        help="a folder, a .safetensors file, a pickle, owner/name of the hub, or name of an added "
        "model",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    # Only here: the other commands need no packages of the worker.
    from models.checkpoints.convert.model_store import ModelStore
    from models.checkpoints.errors import CheckpointError
    from models.checkpoints.names import default_name, normal_form
    from models.loading.inspection import inspect_checkpoint
    from worker.model_info.fits import with_fits
    from worker.model_manager.profiling import step_bytes
    from worker.settings import WorkerSettings

    console = TextConsole()
    settings = read_settings(WorkerSettings)
    added = ModelStore(settings.models_home).find_any(arguments.source)
    source = str(next(iter(added), arguments.source))
    name = normal_form(arguments.source) if added else default_name(source)
    try:
        report = with_fits(inspect_checkpoint(source), Path(source), name, settings)
    except CheckpointError as error:
        raise CannotCheck(str(error)) from error
    folder = report.folder
    step = step_bytes(settings.worker_cache, folder) if folder else None
    text = "\n".join(report.lines(step))
    console.print(f"{arguments.source}: {text}", soft_wrap=True)
    return 0 if report.valid else 1
