"""Arguments of `darkroom generate`, as fields of an API request.

The server validates the fields. Only values that cannot be sent are refused here.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from darkroom.arguments import number, text
from darkroom_client import Task, TaskFields
from protocol.request.object_keys import AudioFormat
from protocol.request.outpainting import Anchor

BORDERS = ("left", "right", "top", "bottom")
LONGEST_FILE = 2**27  # bytes; also an endless file such as /dev/zero must end


@dataclass(frozen=True)
class GenerateArgs:
    """A task, and the fields of each request; the server chooses the fields that are absent."""

    task: Task
    requests: Sequence[TaskFields]


def add_generate_args(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe the images."""
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("prompt", nargs="?", type=text, help='prompt, such as "red heart"')
    prompts.add_argument(
        "--prompts",
        type=_prompts,
        metavar="FILE",
        help="file with a prompt on each line, or - for standard input",
    )
    parser.add_argument(
        "--negative", dest="negative_prompt", type=text, metavar="TEXT", help="negative prompt"
    )
    parser.add_argument("--model", type=text, help="name of the model")
    parser.add_argument("--steps", type=int, help="number of denoising steps")
    parser.add_argument("--seed", type=int, help="seed; the same seed gives the same image")
    parser.add_argument("-n", type=int, metavar="COUNT", help="number of images")
    parser.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="image size in pixels, such as 512x768"
    )
    parser.add_argument("--sampler", type=text, help="sampler, such as euler or dpmpp_2m")
    parser.add_argument("--schedule", type=text, help="noise schedule, such as trailing or karras")
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=number,
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
        "--strength", type=number, help="how much to change --image, from above 0 to 1"
    )
    parser.add_argument(
        "--outpaint",
        action="store_true",
        help="continue --image over its edges, by --left and so on or up to --size",
    )
    for side in BORDERS:
        parser.add_argument(
            f"--{side}", type=int, metavar="PIXELS", help=f"pixels to add at the {side}"
        )
    parser.add_argument(
        "--anchor",
        choices=[anchor.value for anchor in Anchor],
        help="place of --image in --size (default: center)",
    )
    parser.add_argument(
        "--edge-blend",
        type=int,
        metavar="PIXELS",
        help="pixels of --image that are blended with what is added",
    )
    parser.add_argument(
        "--hires",
        dest="hires_scale",
        type=number,
        metavar="TIMES",
        help="hires fix: enlarge the image by this factor and denoise it again",
    )
    parser.add_argument(
        "--hires-upscaler",
        type=text,
        metavar="NAME",
        help="hires fix: enlarge the pixels by this upscaler, not the latents",
    )
    parser.add_argument(
        "--refiner", type=text, metavar="MODEL", help="model that runs the last steps"
    )
    parser.add_argument(
        "--audio",
        dest="audio_format",
        choices=[file_format.value for file_format in AudioFormat],
        help="for a model that generates sound: file format of the sound",
    )
    _add_upscaling_args(parser)


def _add_upscaling_args(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--upscale", action="store_true", help="upscale --image by a super-resolution model"
    )
    parser.add_argument(
        "--upscaler",
        type=text,
        metavar="NAME",
        help="upscale --image by this upscaler of the server, or by lanczos or nearest",
    )
    parser.add_argument(
        "--scale", type=number, metavar="TIMES", help="factor of --upscaler, such as 2.5"
    )
    parser.add_argument(
        "--upscaler-2", type=text, metavar="NAME", help="mix its result with that of --upscaler"
    )
    parser.add_argument(
        "--upscaler-blend",
        type=number,
        metavar="SHARE",
        help="share of --upscaler-2, from 0 to 1",
    )
    parser.add_argument(
        "--tile-size",
        type=int,
        metavar="PIXELS",
        help="after --upscaler, generate --image again in tiles of this side",
    )
    parser.add_argument(
        "--tile-overlap", type=int, metavar="PIXELS", help="what the tiles share with the next"
    )


def read_generate_args(arguments: argparse.Namespace, output_format: str) -> GenerateArgs:
    """Return the task and the requests of the arguments that `add_generate_args` added."""
    width, height = arguments.size or (None, None)
    named = (
        *("prompt", "negative_prompt", "model", "steps", "seed", "n", "sampler", "schedule"),
        *("guidance_scale", "loras", "image", "mask", "strength", "hires_scale", "refiner"),
        *("hires_upscaler", "upscaler", "upscaler_2", "upscaler_blend", "scale"),
        *("tile_size", "tile_overlap", "audio_format", *BORDERS, "anchor", "edge_blend"),
    )
    fields = {name: getattr(arguments, name) for name in named}
    fields |= {"width": width, "height": height}
    given = {name: value for name, value in fields.items() if value is not None}
    given["output_format"] = output_format
    requests = [{**given, "prompt": prompt} for prompt in arguments.prompts or ()]
    return GenerateArgs(_task(arguments), cast(list[TaskFields], requests or [given]))


def _task(arguments: argparse.Namespace) -> Task:
    if arguments.upscale or (arguments.upscaler and arguments.tile_size is None):
        return "upscale"
    if arguments.outpaint:
        return "outpaint"
    if arguments.mask is not None:
        return "inpaint"
    return "txt2img" if arguments.image is None else "img2img"


def _size(value: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", value.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{value} is not WIDTHxHEIGHT, as in 512x768")
    return int(found[1]), int(found[2])


def _lora(value: str) -> dict[str, object]:
    name, colon, weight = text(value).rpartition(":")
    if not colon:
        return {"name": value}
    try:
        return {"name": name, "weight": number(weight)}
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{value} is not NAME:WEIGHT, as in pencil:0.8") from None


def _prompts(name: str) -> list[str]:
    """Return the lines of a file that are not empty."""
    try:
        lines = (sys.stdin.buffer.read() if name == "-" else _file(name)).decode().splitlines()
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{name} is not text in UTF-8") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise argparse.ArgumentTypeError(f"{name} has no prompt")
    return prompts


def _file(name: str) -> bytes:
    """Return the content of a file."""
    try:
        with Path(name).open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > LONGEST_FILE:
        raise argparse.ArgumentTypeError(f"{name} must have at most {LONGEST_FILE} bytes")
    return content
