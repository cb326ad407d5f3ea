"""What a person wishes for on the command line, in the words of the API.

The server says what it does not like, so nothing is checked here but what could not be sent.
"""

import argparse
import base64
from dataclasses import dataclass
from pathlib import Path

from protocol.request.object_keys import AudioFormat
from protocol.request.tasks import Task


@dataclass(frozen=True)
class GenerateArgs:
    """A task and its fields; what was left out is the server's to choose."""

    task: Task
    fields: dict[str, object]


def add_generate_args(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is to be drawn, and how."""
    parser.add_argument("prompt", nargs="?", help='what to draw, as in "red heart"')
    parser.add_argument(
        "--negative", dest="negative_prompt", metavar="TEXT", help="what it should not show"
    )
    parser.add_argument("--model", help="model to draw with")
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--seed", type=int, help="the same seed draws the same picture")
    parser.add_argument("-n", type=int, metavar="COUNT", help="how many pictures to draw")
    parser.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="in pixels, as in 512x768"
    )
    parser.add_argument("--sampler", help="how to denoise, as in euler or dpmpp_2m")
    parser.add_argument("--schedule", help="where to put the steps, as in trailing or karras")
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=float,
        metavar="SCALE",
        help="how closely to follow the words; 1 = off",
    )
    parser.add_argument(
        "--lora",
        dest="loras",
        type=_lora,
        action="append",
        metavar="NAME[:WEIGHT]",
        help="a LoRA to draw with, as in pencil:0.8; may be given several times",
    )
    parser.add_argument("--image", type=_file, metavar="FILE", help="a picture to begin with")
    parser.add_argument(
        "--mask", type=_file, metavar="FILE", help="where it is white, repaint --image"
    )
    parser.add_argument("--strength", type=float, help="how far to leave --image behind, up to 1")
    parser.add_argument("--upscale", action="store_true", help="draw --image larger, as a whole")
    parser.add_argument(
        "--hires",
        dest="hires_scale",
        type=float,
        metavar="TIMES",
        help="enlarge what was drawn by so much, and draw it once more",
    )
    parser.add_argument("--refiner", metavar="MODEL", help="who takes over the last steps")
    parser.add_argument(
        "--audio",
        dest="audio_format",
        choices=[file_format.value for file_format in AudioFormat],
        help="of a model that draws sounds: what it sounds like, too, in such a file",
    )


def wish(arguments: argparse.Namespace) -> GenerateArgs:
    """What `add_generate_args` has understood."""
    width, height = arguments.size or (None, None)
    named = (
        *("prompt", "negative_prompt", "model", "steps", "seed", "n", "sampler", "schedule"),
        *("guidance_scale", "loras", "image", "mask", "strength", "hires_scale", "refiner"),
        "audio_format",
    )
    fields = {name: getattr(arguments, name) for name in named}
    fields |= {"width": width, "height": height}
    given = {name: value for name, value in fields.items() if value is not None}
    return GenerateArgs(_task(arguments), given)


def _task(arguments: argparse.Namespace) -> Task:
    if arguments.upscale:
        return Task.UPSCALE
    if arguments.mask is not None:
        return Task.INPAINT
    return Task.TXT2IMG if arguments.image is None else Task.IMG2IMG


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT, as in 512x768")
    return int(width), int(height)


def _lora(text: str) -> dict[str, object]:
    name, colon, weight = text.rpartition(":")
    if not colon:
        return {"name": text}
    try:
        return {"name": name, "weight": float(weight)}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not NAME:WEIGHT, as in pencil:0.8") from None


def _file(text: str) -> str:
    """What the file holds, as base64."""
    try:
        return base64.b64encode(Path(text).read_bytes()).decode()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from None
