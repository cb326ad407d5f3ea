"""`darkroom models check`: report the kind of a checkpoint, its memory and its problems."""

import argparse

from rich.console import Console

HELP = "report what a checkpoint is and what is wrong with it"


class CannotCheck(RuntimeError):
    """The source is missing or is not a checkpoint."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Read the headers and configuration files of a model, ControlNet or VAE. Report its kind, "
        "the memory of its weights, and every key that is missing, unexpected or of the wrong "
        "shape. No weights are read; from the hub only the small files and the headers are "
        "downloaded."
    )
    parser.epilog = "exit status: 0 if the checkpoint is sound, else 1"
    parser.add_argument(
        "source",
        help="a folder, a .safetensors file, owner/name of the hub, or name of an added model",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    # Only here: the other commands need no packages of the worker.
    from models.checkpoints.convert.model_store import ModelStore
    from models.checkpoints.errors import CheckpointError
    from models.loading.inspection import inspect_checkpoint
    from worker.model_manager.profiling import step_bytes
    from worker.settings import WorkerSettings

    console = Console()
    settings = WorkerSettings()
    added = ModelStore(settings.models_home).find_any(arguments.source)
    try:
        report = inspect_checkpoint(str(next(iter(added), arguments.source)))
    except CheckpointError as error:
        raise CannotCheck(str(error)) from error
    folder = report.folder
    step = step_bytes(settings.worker_cache, folder) if folder else None
    text = "\n".join(report.lines(step))
    console.print(f"{arguments.source}: {text}", highlight=False, soft_wrap=True)
    return 0 if report.valid else 1
