"""`darkroom generate`: pictures into files, from a running server or from one of the moment."""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom.addresses import server_url
from darkroom.client import Client, Picture, ServerUnreachable, Step
from darkroom.commands.generate_args import GenerateArgs, add_generate_args, wish
from darkroom.display import QuietDisplay
from darkroom.processes.process import ProgramFailed
from darkroom.processes.stack import LocalStack, local_stack
from darkroom.signals import run_until_signal
from protocol.queue.job import JobState
from protocol.settings import Settings

HELP = "draw pictures"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Draw a picture from words, from another picture, or both. A running Darkroom does it if "
        "one answers; otherwise one is started for this picture and stopped again."
    )
    add_generate_args(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        default=Path("out.png"),
        metavar="FILE",
        help="where to write it; its ending (.png, .jpg, .webp) says the format (default: "
        "out.png); several become out-1.png, out-2.png and so on, and what comes with a picture "
        "out-depth.png or out-sound.wav",
    )
    parser.add_argument("--url", help="the server to ask (default: this machine's, by HOST, PORT)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture; the exit status says whether it was written."""
    written = run_until_signal(_generate(arguments, Console(stderr=True)))
    return 0 if written else 130


async def _generate(arguments: argparse.Namespace, console: Console) -> bool:
    output: Path = arguments.output
    wished = wish(arguments)
    wished.fields["output_format"] = FORMATS[output.suffix.lower()]
    async with _some_server(arguments.url, console) as client:
        pictures = await _draw(client, wished, console)
    for path, picture in zip(_paths(output, len(pictures)), pictures, strict=True):
        _write(path, picture, console)
    return True


def _write(path: Path, picture: Picture, console: Console) -> None:
    """The picture, and beside it what comes with it: out.png, out-depth.png."""
    files = {path: picture.content} | {
        path.with_name(f"{path.stem}-{ending}"): content
        for ending, content in picture.extras.items()
    }
    for file, content in files.items():
        file.write_bytes(content)
        console.print(f"wrote {file}", highlight=False)
    if picture.flagged:
        console.print(f"{path}: the model's safety checker has flagged it", highlight=False)


def _paths(output: Path, count: int) -> list[Path]:
    """Where to write so many pictures."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


@asynccontextmanager
async def _some_server(url: str | None, console: Console) -> AsyncIterator[Client]:
    """The server at `url`, or the one of this machine, or one that lives as long as the block."""
    settings = Settings()
    async with Client.connected(url or server_url(settings)) as client:
        if await client.answers():
            yield client
            return
    if url:
        raise ServerUnreachable(f"no Darkroom answers at {url}")
    console.print("No Darkroom is running: starting one for this picture.", highlight=False)
    async with (
        _house_of_the_moment(settings, QuietDisplay(console)) as house,
        Client.connected(house.url) as client,
    ):
        yield client


@asynccontextmanager
async def _house_of_the_moment(
    settings: Settings, display: QuietDisplay
) -> AsyncIterator[LocalStack]:
    alone = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
    with tempfile.TemporaryDirectory(prefix="darkroom-") as home:
        try:
            async with local_stack(Path(home), alone, display) as house:
                yield house
        except ProgramFailed:
            display.show_kept()
            raise
        finally:
            display.close()


async def _draw(client: Client, wished: GenerateArgs, console: Console) -> list[Picture]:
    """What is wished for. If we are stopped meanwhile, the job is cancelled."""
    submitting = asyncio.ensure_future(client.submit(wished.task, wished.fields))
    try:
        job = await asyncio.shield(submitting)
        await _show_progress(client.follow(job), console)
    except asyncio.CancelledError:
        # Stopped before the answer came, the job may be queued all the same.
        await client.cancel(await submitting)
        raise
    return await client.pictures(job)


async def _show_progress(steps: AsyncIterator[Step], console: Console) -> None:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("waiting", total=None)
        async for step in steps:
            bar.update(task, description=_words(step))
            if step.steps:
                bar.update(task, completed=step.step, total=step.steps)
        # The last step and the end may come in one view, which then has no progress.
        bar.update(task, completed=bar.tasks[task].total)


def _words(step: Step) -> str:
    if step.state is JobState.QUEUED and step.position:
        return f"waiting, {step.position} ahead"
    return {JobState.QUEUED: "waiting", JobState.RUNNING: "drawing"}.get(step.state, step.state)


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text} must end in {', '.join(FORMATS)}")
    return path
