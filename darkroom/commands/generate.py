"""`darkroom generate`: write images to files, from a running server or a temporary local stack."""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from darkroom.addresses import server_url
from darkroom.arguments import server
from darkroom.client import connect
from darkroom.commands.generate_args import GenerateArgs, add_generate_args, read_generate_args
from darkroom.commands.generated_files import write_images
from darkroom.commands.generation_progress import GenerationProgress
from darkroom.display import BufferedDisplay
from darkroom.processes.process import ProgramFailed
from darkroom.processes.stack import LocalStack, check_stack_settings, local_stack
from darkroom.signals import run_until_signal
from darkroom.terminal import TextConsole
from darkroom_client import AsyncClient, ServerUnreachable, TaskFields
from protocol.setting_types import expanded
from protocol.settings import Settings
from protocol.startup import InvalidSettings, check_writable_folder, read_settings

HELP = "generate images"
IN_FLIGHT = 8  # jobs at a time, so that the server can batch them
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}


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
        "several images become out-1.png, out-2.png and so on, in the order of the prompts, and "
        "depth or sound out-depth.png or out-sound.wav",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a line of JSON for each image: its file, its seed and its recipe",
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
    generate_args = read_generate_args(arguments, FORMATS[arguments.output.suffix.lower()])
    async with _client(arguments.url, console) as client:
        with GenerationProgress(console, len(generate_args.requests)) as progress:
            await _Generation(arguments, generate_args, client, progress, console).run()
    return True


class _Generation:
    """The jobs of one command, of which some run at a time. An error ends the others."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        generate_args: GenerateArgs,
        client: AsyncClient,
        progress: GenerationProgress,
        console: Console,
    ) -> None:
        self._output: Path = arguments.output
        self._images_each: int = arguments.n or 1
        self._as_json: bool = arguments.json
        self._args = generate_args
        self._client = client
        self._progress = progress
        self._console = console
        self._turns = asyncio.Semaphore(IN_FLIGHT)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number, fields in enumerate(self._args.requests):
                    group.create_task(self._generate(number, fields))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _generate(self, number: int, fields: TaskFields) -> None:
        """Generate and write the images of one request."""
        async with self._turns:
            result = await self._client.run(
                self._args.task, on_progress=self._progress.update, **fields
            )
        first = number * self._images_each + 1
        paths = [self._path(first + index) for index, _ in enumerate(result.images)]
        await write_images(paths, result, self._as_json, self._console)
        self._progress.finish_one()

    def _path(self, number: int) -> Path:
        """Return the path of an image, which has a number if there are several."""
        if len(self._args.requests) * self._images_each == 1:
            return self._output
        return self._output.with_stem(f"{self._output.stem}-{number}")


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise InvalidSettings(f"--output is {output}, but must be a file, not a folder")
    if not output.parent.is_dir():
        raise InvalidSettings(f"--output is {output}, but there is no folder {output.parent}")
    check_writable_folder("the folder of --output", output.parent, longest_name=output.name)


@asynccontextmanager
async def _client(url: str | None, console: Console) -> AsyncIterator[AsyncClient]:
    """Connect to the server at `url`, else to this machine's, else to a temporary local stack."""
    settings = read_settings(Settings)
    async with connect(url or server_url(settings)) as client:
        if await client.is_reachable():
            yield client
            return
    if url:
        raise ServerUnreachable(f"no Darkroom answers at {url}")
    check_stack_settings()
    console.print("No Darkroom is running: starting a temporary one.", soft_wrap=True)
    async with (
        _temporary_stack(settings, BufferedDisplay(console)) as stack,
        connect(stack.url) as client,
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


def _output(text: str) -> Path:
    path = expanded(Path(text))
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text} must end in {', '.join(FORMATS)}")
    return path
