"""`darkroom generate`: write images to files, from a running server or a temporary local stack."""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom.addresses import server_url
from darkroom.arguments import server
from darkroom.client import Client, GeneratedImage, GenerationResult, JobProgress, ServerUnreachable
from darkroom.commands.generate_args import GenerateArgs, add_generate_args, read_generate_args
from darkroom.display import BufferedDisplay
from darkroom.processes.process import ProgramFailed
from darkroom.processes.stack import LocalStack, check_stack_settings, local_stack
from darkroom.signals import run_until_signal
from darkroom.terminal import TextConsole
from protocol.folder import Folder
from protocol.queue.job import JobState
from protocol.setting_types import expanded
from protocol.settings import Settings
from protocol.startup import InvalidSettings, check_writable_folder, read_settings

HELP = "generate images"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}


class CannotWrite(RuntimeError):
    """An image cannot be written, although the folder could be written to before."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Generate an image from a prompt, from another image, or from both. The command uses a "
        "running Darkroom if one answers; otherwise it starts a temporary one."
    )
    add_generate_args(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        default=Path("out.png"),
        metavar="FILE",
        help="output file; its ending (.png, .jpg, .webp, .avif) sets the format "
        "(default: out.png); "
        "several images become out-1.png, out-2.png and so on, and depth or sound out-depth.png "
        "or out-sound.wav",
    )
    parser.add_argument(
        "--url", type=server, help="address of the server (default: this machine's, by HOST, PORT)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Generate and write the images; returns 0, or 130 if stopped by a signal.

    Raises InvalidSettings, before an image is generated, if it could not be written.
    """
    _check_output(arguments.output)
    written = run_until_signal(_generate(arguments, TextConsole(stderr=True)))
    return 0 if written else 130


async def _generate(arguments: argparse.Namespace, console: Console) -> bool:
    output: Path = arguments.output
    generate_args = read_generate_args(arguments)
    generate_args.fields["output_format"] = FORMATS[output.suffix.lower()]
    async with _client(arguments.url, console) as client:
        result = await _result(client, generate_args, console)
    for path, image in zip(_paths(output, len(result.images)), result.images, strict=True):
        _write(path, image, console)
    for warning in result.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    return True


def _write(path: Path, image: GeneratedImage, console: Console) -> None:
    """Write the image and its extra files next to it: out.png, out-depth.png."""
    files = {path: image.content} | {
        path.with_name(f"{path.stem}-{ending}"): content for ending, content in image.extras.items()
    }
    for file, content in files.items():
        try:
            # By another name first: if the disk is full, an older file stays as it is.
            Folder(file.parent).write(file.name, content)
        except OSError as error:
            raise CannotWrite(f"{file} cannot be written: {error.strerror}") from error
        console.print(f"wrote {file}", soft_wrap=True)
    if image.flagged:
        console.print(f"{path}: the model's safety checker has flagged it", soft_wrap=True)


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise InvalidSettings(f"--output is {output}, but must be a file, not a folder")
    if not output.parent.is_dir():
        raise InvalidSettings(f"--output is {output}, but there is no folder {output.parent}")
    check_writable_folder("the folder of --output", output.parent, longest_name=output.name)


def _paths(output: Path, count: int) -> list[Path]:
    """Return the paths of `count` images."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


@asynccontextmanager
async def _client(url: str | None, console: Console) -> AsyncIterator[Client]:
    """Connect to the server at `url`, else to this machine's, else to a temporary local stack."""
    settings = read_settings(Settings)
    async with Client.connected(url or server_url(settings)) as client:
        if await client.is_reachable():
            yield client
            return
    if url:
        raise ServerUnreachable(f"no Darkroom answers at {url}")
    check_stack_settings()
    console.print("No Darkroom is running: starting a temporary one.", soft_wrap=True)
    async with (
        _temporary_stack(settings, BufferedDisplay(console)) as stack,
        Client.connected(stack.url) as client,
    ):
        yield client


@asynccontextmanager
async def _temporary_stack(
    settings: Settings, display: BufferedDisplay
) -> AsyncIterator[LocalStack]:
    alone = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
    with tempfile.TemporaryDirectory(prefix="darkroom-") as home:
        try:
            async with local_stack(Path(home), alone, display) as stack:
                yield stack
        except ProgramFailed:
            display.print_lines()
            raise
        finally:
            display.close()


async def _result(
    client: Client, generate_args: GenerateArgs, console: Console
) -> GenerationResult:
    """Submit the job, show its progress and fetch its result. If stopped, cancel the job."""
    submitting = asyncio.ensure_future(client.submit(generate_args.task, generate_args.fields))
    try:
        job = await asyncio.shield(submitting)
        await _show_progress(client.follow(job), console)
    except asyncio.CancelledError:
        # If stopped before the response arrived, the job may be queued all the same.
        await client.cancel(await submitting)
        raise
    return await client.result(job)


async def _show_progress(updates: AsyncIterator[JobProgress], console: Console) -> None:
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("waiting", total=None)
        async for update in updates:
            bar.update(task, description=_status_text(update))
            if update.steps:
                bar.update(task, completed=update.step, total=update.steps)
        # The last step and the end may come in one event, which then has no progress.
        bar.update(task, completed=bar.tasks[task].total)


def _status_text(progress: JobProgress) -> str:
    state = progress.state
    if state is JobState.QUEUED and progress.position:
        return f"waiting, {progress.position} ahead"
    return {JobState.QUEUED: "waiting", JobState.RUNNING: "generating"}.get(state, state)


def _output(text: str) -> Path:
    path = expanded(Path(text))
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text} must end in {', '.join(FORMATS)}")
    return path
