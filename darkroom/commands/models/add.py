"""`darkroom models add`: convert a checkpoint or extra network and add it to the model store."""

import argparse
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from darkroom.arguments import text
from darkroom.terminal import TextConsole
from protocol.startup import check_writable_folder, read_settings

HELP = "add a model, LoRA, embedding, ControlNet, VAE, UNet or upscaler"
_KINDS = ("model", "lora", "embedding", "controlnet", "vae", "unet", "upscaler")


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
    parser.add_argument(
        "source", type=text, help="a file, a folder, owner/name of the hub, or one file of it"
    )
    parser.add_argument("--name", type=text, help="name of the model (default: name of the source)")
    parser.add_argument(
        "--kind",
        choices=_KINDS,
        help="refuse a source of any other kind; upscaler also adds networks that need spandrel",
    )
    parser.add_argument(
        "--tokenizer",
        type=text,
        help="folder or hub id of the vocabulary for the text-to-image models of the paper, "
        "such as google-bert/bert-base-uncased",
    )
    parser.add_argument(
        "--global-pool-conditions",
        action=argparse.BooleanOptionalAction,
        help="average the residuals of a ControlNet over the image, as the published shuffle "
        "ControlNet does (default: by its configuration, or by its name)",
    )
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help="take the weights of a model's UNet that were averaged over the training, or those of "
        "its last step (default: the averaged ones, where the source holds both)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Add the source and show the progress."""
    # Only here: the other commands need no packages of the worker.
    from models.checkpoints.convert.install import install
    from models.checkpoints.convert.model_store import ModelStore
    from models.checkpoints.errors import CheckpointError
    from models.checkpoints.names import default_name
    from worker.model_info.validation import CheckpointValidator
    from worker.settings import WorkerSettings

    settings = read_settings(WorkerSettings)
    home = settings.models_home
    check_writable_folder("DARKROOM_MODELS_HOME", home)
    console = TextConsole()
    name = arguments.name or default_name(arguments.source)
    validator = CheckpointValidator(name, settings)
    with _progress(console) as progress:
        try:
            added = install(
                arguments.source,
                ModelStore(home),
                name=name,
                kind=arguments.kind,
                tokenizer=arguments.tokenizer,
                pools=arguments.global_pool_conditions,
                ema=arguments.ema,
                report=_progress_callback(progress),
                validate=validator,
            )
        except CheckpointError as error:
            raise CannotAdd(str(error)) from error
    title = added.kind if added.title == added.kind else f"{added.kind} ({added.title})"
    lines = [f"Added {title} {added.name}: {added.path}"]
    lines += [f"Fits {validator.fitting}."] if validator.fitting else []
    lines += [f"Note: {note}." for note in (*added.notes, *validator.notes)]
    console.print("\n".join(lines), soft_wrap=True)
    return 0


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
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
