"""`darkroom up`: run the local stack on this machine until Ctrl-C."""

import argparse
import json
import os
from pathlib import Path

from rich.console import Console

from darkroom.display import TerminalDisplay
from darkroom.processes.stack import local_stack
from darkroom.signals import run_until_signal
from protocol.settings import Settings

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
        type=Path,
        default=_default_home(),
        metavar="FOLDER",
        help="folder of the queue and images (default: DARKROOM_HOME, else %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the stack until a signal stops it."""
    console = Console()
    run_until_signal(_up(arguments.home, console))
    console.print("Darkroom has stopped.", highlight=False)
    return 0


async def _up(home: Path, console: Console) -> None:
    display = TerminalDisplay(console)
    try:
        async with local_stack(home, Settings(), display) as stack:
            console.print(_welcome(stack.url), highlight=False, markup=False, soft_wrap=True)
            try:
                await stack.wait()
            finally:
                console.print("Stopping.", highlight=False)
    finally:
        display.close()


def _default_home() -> Path:
    if home := os.environ.get("DARKROOM_HOME"):
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "darkroom"


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
