"""`darkroom generate`: a picture from words, from a running server or from one of the moment."""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom.addresses import server_url
from darkroom.child import ProgramFailed
from darkroom.client import Client, ServerUnreachable, Step
from darkroom.display import QuietDisplay
from darkroom.house import House, open_house
from darkroom.until_stopped import until_stopped
from protocol.job import JobState
from protocol.settings import Settings

HELP = "draw a picture"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Draw a picture from words. A running Darkroom does it if one answers; otherwise one is "
        "started for this picture and stopped again."
    )
    parser.add_argument("prompt", help='what to draw, as in "red heart"')
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        default=Path("out.png"),
        metavar="FILE",
        help="where to write it; its ending (.png, .jpg, .webp) says the format (default: out.png)",
    )
    parser.add_argument("--negative", metavar="TEXT", help="what it should not show")
    parser.add_argument("--model", help="model to draw with")
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--seed", type=int, help="the same seed draws the same picture")
    parser.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="in pixels, as in 512x768"
    )
    parser.add_argument("--sampler", help="how to denoise, as in euler or dpmpp_2m")
    parser.add_argument("--schedule", help="where to put the steps, as in trailing or karras")
    parser.add_argument(
        "--guidance", type=float, metavar="SCALE", help="how closely to follow the words; 1 = off"
    )
    parser.add_argument("--url", help="the server to ask (default: this machine's, by HOST, PORT)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture; the exit status says whether it was written."""
    written = until_stopped(_generate(arguments, Console(stderr=True)))
    return 0 if written else 130


async def _generate(arguments: argparse.Namespace, console: Console) -> bool:
    async with _some_server(arguments.url, console) as client:
        image = await _draw(client, _fields(arguments), console)
    arguments.output.write_bytes(image)
    console.print(f"wrote {arguments.output}", highlight=False)
    return True


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
async def _house_of_the_moment(settings: Settings, display: QuietDisplay) -> AsyncIterator[House]:
    alone = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
    with tempfile.TemporaryDirectory(prefix="darkroom-") as home:
        try:
            async with open_house(Path(home), alone, display) as house:
                yield house
        except ProgramFailed:
            display.show_kept()
            raise
        finally:
            display.close()


def _fields(arguments: argparse.Namespace) -> dict[str, object]:
    """The request's fields; what was left out is the server's to choose."""
    width, height = arguments.size or (None, None)
    fields = {
        "prompt": arguments.prompt,
        "negative_prompt": arguments.negative,
        "model": arguments.model,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "width": width,
        "height": height,
        "sampler": arguments.sampler,
        "schedule": arguments.schedule,
        "guidance_scale": arguments.guidance,
        "output_format": FORMATS[arguments.output.suffix.lower()],
    }
    return {name: value for name, value in fields.items() if value is not None}


async def _draw(client: Client, fields: dict[str, object], console: Console) -> bytes:
    """The picture's file. If we are stopped meanwhile, the job is cancelled."""
    submitting = asyncio.ensure_future(client.submit(fields))
    try:
        job = await asyncio.shield(submitting)
        await _show_progress(client.follow(job), console)
    except asyncio.CancelledError:
        # Stopped before the answer came, the job may be queued all the same.
        await client.cancel(await submitting)
        raise
    return await client.image(job, 0)


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


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT, as in 512x768")
    return int(width), int(height)
