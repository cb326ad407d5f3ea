"""`darkroom models add`: bring a checkpoint, or what goes with one, into the models home."""

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.settings import Settings

HELP = "add a model, LoRA, embedding, ControlNet, VAE or UNet"
_TOLD = 20  # problems that are listed; a wrong file has thousands
_KINDS = ("model", "lora", "embedding", "controlnet", "vae", "unet")


class CannotAdd(RuntimeError):
    """What was to be added is not there, damaged, hostile, or nothing this project knows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Read a checkpoint in any published format (.safetensors, .ckpt, .pt, .pth, .bin, "
        ".pdparams, a folder of components, a hub id) and write it as safetensors to "
        "DARKROOM_MODELS_HOME. It is read in a process of its own, with limits; no code in it is "
        "ever run. What it is, its keys say."
    )
    parser.add_argument("source", help="a file, a folder, owner/name of the hub, or one file of it")
    parser.add_argument("--name", help="what it is to be called (default: as its source)")
    parser.add_argument("--kind", choices=_KINDS, help="refuse it unless it is of this kind")
    parser.add_argument(
        "--tokenizer",
        help="folder or hub id with the vocabulary of the paper's text-to-image models, "
        "such as google-bert/bert-base-uncased",
    )


def run(arguments: argparse.Namespace) -> int:
    """Add it, showing how far it is."""
    # Only here: the other commands need nothing of the worker's packages.
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
                report=_shown(progress),
                validate=_validate,
            )
        except CheckpointError as error:
            raise CannotAdd(str(error)) from error
    title = added.kind if added.title == added.kind else f"{added.kind} ({added.title})"
    said = [f"Added {title} {added.name}: {added.path}", *(f"Note: {n}." for n in added.notes)]
    console.print("\n".join(said), highlight=False, soft_wrap=True)
    return 0


def _validate(made: Path) -> None:
    """Refuse networks that lack a key, or have one too many or of another shape, and LoRAs that are
    of another kind."""
    from models.checkpoints.errors import CheckpointError
    from models.loading.inspection import inspect_checkpoint

    wrong = inspect_checkpoint(str(made)).all_problems
    if wrong:
        more = f" … and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
        raise CheckpointError("it does not load: " + "; ".join(wrong[:_TOLD]) + more)


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


def _shown(progress: Progress) -> Callable[[float, str], None]:
    task = progress.add_task("reading", total=1.0)
    return lambda share, what: progress.update(task, description=what, completed=share)
