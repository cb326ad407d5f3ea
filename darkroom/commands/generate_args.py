"""Arguments of `darkroom generate`, as fields of an API request.

The server validates the fields. Only values that cannot be sent are refused here.
"""

import argparse
import base64
from dataclasses import dataclass
from pathlib import Path

from protocol.request.object_keys import AudioFormat
from protocol.request.tasks import Task


@dataclass(frozen=True)
class GenerateArgs:
    """A task and its request fields; the server chooses the fields that are absent."""

    task: Task
    fields: dict[str, object]


def add_generate_args(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe the images."""
    parser.add_argument("prompt", nargs="?", help='prompt, such as "red heart"')
    parser.add_argument(
        "--negative", dest="negative_prompt", metavar="TEXT", help="negative prompt"
    )
    parser.add_argument("--model", help="name of the model")
    parser.add_argument("--steps", type=int, help="number of denoising steps")
    parser.add_argument("--seed", type=int, help="seed; the same seed gives the same image")
    parser.add_argument("-n", type=int, metavar="COUNT", help="number of images")
    parser.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="image size in pixels, such as 512x768"
    )
    parser.add_argument("--sampler", help="sampler, such as euler or dpmpp_2m")
    parser.add_argument("--schedule", help="noise schedule, such as trailing or karras")
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=float,
        metavar="SCALE",
        help="classifier-free guidance scale; 1 = off",
    )
    parser.add_argument(
        "--lora",
        dest="loras",
        type=_lora,
        action="append",
        metavar="NAME[:WEIGHT]",
        help="LoRA to apply, such as pencil:0.8; may be repeated",
    )
    parser.add_argument("--image", type=_file, metavar="FILE", help="initial image")
    parser.add_argument(
        "--mask", type=_file, metavar="FILE", help="mask: inpaint --image where it is white"
    )
    parser.add_argument(
        "--strength", type=float, help="how much to change --image, from above 0 to 1"
    )
    parser.add_argument("--upscale", action="store_true", help="upscale --image")
    parser.add_argument(
        "--hires",
        dest="hires_scale",
        type=float,
        metavar="TIMES",
        help="hires fix: enlarge the image by this factor and denoise it again",
    )
    parser.add_argument("--refiner", metavar="MODEL", help="model that runs the last steps")
    parser.add_argument(
        "--audio",
        dest="audio_format",
        choices=[file_format.value for file_format in AudioFormat],
        help="for a model that generates sound: file format of the sound",
    )


def read_generate_args(arguments: argparse.Namespace) -> GenerateArgs:
    """Return the task and fields of the arguments that `add_generate_args` added."""
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
    """Return the content of a file as base64."""
    try:
        return base64.b64encode(Path(text).read_bytes()).decode()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from None
