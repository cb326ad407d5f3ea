"""`darkroom models add`: convert a checkpoint or extra network and add it to the model store."""

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.settings import Settings

HELP = "add a model, LoRA, embedding, ControlNet, VAE or UNet"
_MAX_PROBLEMS = 20  # problems that are listed; a wrong file has thousands
_KINDS = ("model", "lora", "embedding", "controlnet", "vae", "unet")


class CannotAdd(RuntimeError):
    """The source is missing, damaged, hostile, or of an unknown kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Read a checkpoint in any published format (.safetensors, .ckpt, .pt, .pth, .bin, "
        ".pdparams, a folder of components, a hub id) and write it as safetensors to "
        "DARKROOM_MODELS_HOME. It is read in a separate process with resource limits, and no code "
        "in it is executed. Its kind is detected from its keys."
    )
    parser.add_argument("source", help="a file, a folder, owner/name of the hub, or one file of it")
    parser.add_argument("--name", help="name of the model (default: name of the source)")
    parser.add_argument("--kind", choices=_KINDS, help="refuse a source of any other kind")
    parser.add_argument(
        "--tokenizer",
        help="folder or hub id of the vocabulary for the text-to-image models of the paper, "
        "such as google-bert/bert-base-uncased",
    )


def run(arguments: argparse.Namespace) -> int:
    """Add the source and show the progress."""
    # Only here: the other commands need no packages of the worker.
    from models.checkpoints.convert.install import install
    from models.checkpoints.convert.model_store import ModelStore
    from models.checkpoints.errors import CheckpointError

    console = Console()
    with _progress(console) as progress:
        try:
            added = install(
                arguments.source,
                ModelStore(Settings().models_home),
                name=arguments.name,
                kind=arguments.kind,
                tokenizer=arguments.tokenizer,
                report=_progress_callback(progress),
                validate=_validate,
            )
        except CheckpointError as error:
            raise CannotAdd(str(error)) from error
    title = added.kind if added.title == added.kind else f"{added.kind} ({added.title})"
    lines = [f"Added {title} {added.name}: {added.path}", *(f"Note: {n}." for n in added.notes)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return 0


def _validate(converted: Path) -> None:
    """Refuse networks with missing or unexpected keys or wrong shapes, and unknown LoRA kinds."""
    from models.checkpoints.errors import CheckpointError
    from models.loading.inspection import inspect_checkpoint

    problems = inspect_checkpoint(str(converted)).all_problems
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        ending = f" … and {more} more" if more > 0 else ""
        raise CheckpointError("it does not load: " + "; ".join(problems[:_MAX_PROBLEMS]) + ending)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _progress_callback(progress: Progress) -> Callable[[float, str], None]:
    task = progress.add_task("reading", total=1.0)
    return lambda share, what: progress.update(task, description=what, completed=share)
