"""`darkroom up`: run the local stack on this machine until Ctrl-C."""

import argparse
import json
import os
from pathlib import Path

from rich.console import Console

from darkroom.arguments import folder
from darkroom.display import TerminalDisplay
from darkroom.processes.stack import check_stack_settings, local_stack
from darkroom.signals import run_until_signal
from darkroom.terminal import TextConsole
from protocol.setting_types import expanded
from protocol.settings import Settings
from protocol.startup import check_writable_folder, read_settings

HOME = "DARKROOM_HOME"

REQUEST = json.dumps({"prompt": "red heart"})
SAVE = (
    "import base64, json, sys; "
    'image = json.load(sys.stdin)["images"][0]["base64"]; '
    "sys.stdout.buffer.write(base64.b64decode(image))"
)

HELP = "start the local stack: Redis, a worker and the API"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Start an embedded Redis-compatible server (unless REDIS_URL names one), a worker and the "
        "API, and keep them running until Ctrl-C. HOST and PORT set where the API listens."
    )
    parser.add_argument(
        "--home",
        type=folder,
        metavar="FOLDER",
        help="folder of the queue and images (default: DARKROOM_HOME, else "
        "~/.local/share/darkroom)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the stack until a signal stops it."""
    console = TextConsole()
    settings = read_settings(Settings)
    check_stack_settings()
    run_until_signal(_up(_home(arguments.home, settings), settings, console))
    console.print("Darkroom has stopped.", soft_wrap=True)
    return 0


async def _up(home: Path, settings: Settings, console: Console) -> None:
    display = TerminalDisplay(console)
    try:
        async with local_stack(home, settings, display) as stack:
            console.print(_welcome(stack.url), soft_wrap=True)
            try:
                await stack.wait()
            finally:
                console.print("Stopping.", soft_wrap=True)
    finally:
        display.close()


def _home(given: Path | None, settings: Settings) -> Path:
    """Return the folder of the queue and images. Raises InvalidSettings if it cannot be used."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    home = given or expanded(Path(os.environ.get(HOME) or f"{data}/darkroom"))
    if not {"redis_url", "object_store_url"} <= settings.model_fields_set:
        check_writable_folder("--home" if given else HOME, home)
    return home


def _welcome(url: str) -> str:
    return f"""
Darkroom is ready: {url}   (Ctrl-C stops it)

Generate an image:
  curl -s {url}/v1/txt2img -H 'Content-Type: application/json' -d '{REQUEST}' \\
    | python3 -c '{SAVE}' > heart.png
or:
  darkroom generate "red heart" -o heart.png
API reference: {url}/docs
"""
