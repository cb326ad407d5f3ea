"""`darkroom models check`: what a checkpoint is, what it needs, and what is wrong with it."""

import argparse

from rich.console import Console

HELP = "say what a checkpoint is, and what is missing"


class CannotCheck(RuntimeError):
    """What was to be checked is not there, or no checkpoint."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Read the headers and configuration files of a model, or of a ControlNet or VAE, and say "
        "what it is, how much memory its weights take, and every key that is missing, unexpected "
        "or of another shape. No weight is read; of a hub id only the small files and the headers "
        "are fetched."
    )
    parser.epilog = "exit status: 0 if it is sound, else 1"
    parser.add_argument(
        "source", help="a folder, a .safetensors file, owner/name of the hub, or what was added"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what there is to say."""
    # Only here: the other commands need nothing of the worker's packages.
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
