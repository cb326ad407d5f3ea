"""Translation of a prediction's input: from the fields of models on Replicate to ours."""

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request
from pydantic import JsonValue

from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size
from protocol.request.tasks import Task
from service.dialects.diffusion_fields import OWN, extra_fields
from service.dialects.lenient import SIZE, file_field, number, parse_size, translated
from service.dialects.sampler_names import sampler_fields
from service.dialects.sizes import asked_ratio, best_size, fitted, sides
from service.routes.deps import Services
from service.routes.submission import fetched
from service.schemas.body_parser import Fields
from service.schemas.data_uri import decode_file

IMAGE, MASK = "image", "mask"
# Names of files and numbers in the schemas of models on Replicate, and ours.
NAMES = {
    "prompt": "prompt",
    IMAGE: IMAGE,
    "input_image": IMAGE,
    "init_image": IMAGE,
    MASK: MASK,
    "mask_image": MASK,
    "n": "n",
    "num_outputs": "n",
    "num_images": "n",
    "output_format": "output_format",
    "output_quality": "quality",
}
ALIASES = {
    "num_steps": "num_inference_steps",
    "prompt_strength": "strength",
    "guidance": "guidance_scale",
}
SCHEDULER = "scheduler"
RATIO_ONLY = ("match_input_image", "custom")  # of `aspect_ratio`: other fields say the size
SIZED = (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT)
FILES = frozenset({IMAGE, MASK, "input_image", "init_image", "mask_image", "controls"})
LONGEST_KEPT = 4096  # characters of a file's address


@dataclass(frozen=True)
class Translation:
    """An input in our fields. The client's names of them are in the request's scope."""

    task: Task
    fields: Fields


def task_of(given: Fields, card: ModelCard) -> Task:
    """Return the task that an input means to a model; the model's first if it has none of them."""
    wanted = {
        Task.OUTPAINT: any(given.get(side) for side in ("left", "right", "top", "bottom")),
        Task.UPSCALE: given.get("upscaler") is not None,
        Task.INPAINT: MASK in given,
        Task.SEMANTIC: IMAGE in given and Task.IMG2IMG not in card.tasks,
        Task.IMG2IMG: IMAGE in given,
        Task.CLASS: given.get("class_id") is not None,
        Task.LAYOUT: given.get("boxes") is not None,
        Task.TXT2IMG: IMAGE not in given and MASK not in given,
    }
    asked = [task for task, is_wanted in wanted.items() if is_wanted]
    able = [task for task in asked if task in card.tasks]
    if IMAGE in given and not able and Task.UPSCALE in card.tasks:
        return Task.UPSCALE
    unprompted = Task.UNCONDITIONAL in card.tasks and Task.TXT2IMG in asked
    return next(iter(able), Task.UNCONDITIONAL if unprompted else asked[0])


async def translate(
    sent: dict[str, JsonValue], card: ModelCard, request: Request, services: Services
) -> Translation:
    """Return an input in our fields. Raises `InvalidRequest`, `DecodingBusy` and `Overloaded`."""
    filled_in: Fields = {name: value for name, value in sent.items() if value not in (None, "")}
    request.scope["field_names"] = CLIENT_NAMES
    ours, names = translated(filled_in, NAMES)
    task = task_of(filled_in | ours, card)
    extras, extra_names = extra_fields(_usual(filled_in), task)
    shown = {name: theirs for theirs, name in ALIASES.items() if theirs in filled_in}
    names |= {field: shown.get(theirs, theirs) for field, theirs in extra_names.items()}
    request.scope["field_names"] = FIELD_NAMES | _below_input(names)
    if not task.takes_image:
        extras.pop("strength", None)  # clients send it with its default for any task
    fields = extras | _plain(ours) | {"model": card.name}
    size = _size(filled_in, fields, card) if task in SIZED else None
    fields |= sides(size)
    if IMAGE in ours or MASK in ours:
        fields = await _with_files(task, fields, size, card, request, services)
    return Translation(task, fields)


def _below_input(names: Mapping[str, str]) -> dict[str, str]:
    """Return the client's names of our fields as errors have them."""
    below = {field: f"input.{theirs}" for field, theirs in names.items()}
    return below | {f"{field}_url": below[field] for field in (IMAGE, MASK) if field in below}


FIELD_NAMES = _below_input(
    {name: name for name in (*NAMES.values(), *OWN, "sampler", "size", "aspect_ratio")}
)


CLIENT_NAMES = {name: f"input.{name}" for name in (*NAMES, *ALIASES)}


def kept_input(sent: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return an input without the data of its files; their addresses stay."""
    return {name: value for name, value in sent.items() if not (name in FILES and _is_data(value))}


def _is_data(value: JsonValue) -> bool:
    is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
    return not is_address or len(str(value)) > LONGEST_KEPT


def _usual(sent: Fields) -> Fields:
    """Return an input with the names of diffusers, and a scheduler by one of its names."""
    usual = {ALIASES.get(name, name): value for name, value in sent.items()}
    if isinstance(name := usual.get(SCHEDULER), str):
        # Models on Replicate name diffusers' classes without the word Scheduler at their end.
        known = sampler_fields(name) != {"sampler": name}
        usual[SCHEDULER] = name if known else _class_name(name)
    return usual


def _class_name(name: str) -> str:
    found = sampler_fields(f"{name}Scheduler")
    return name if found == {"sampler": f"{name}Scheduler"} else f"{name}Scheduler"


def _plain(ours: Fields) -> Fields:
    """Return the fields of `NAMES` as ours are; a quality is that of a format that has one."""
    plain = {**ours}
    for name in ("n", "quality"):
        if name in plain:
            plain[name] = number(plain[name])
    if plain.get("output_format") == "jpg":
        plain["output_format"] = "jpeg"
    if plain.get("output_format", "png") == "png":
        plain.pop("quality", None)
    return plain


def _size(sent: Fields, fields: Fields, card: ModelCard) -> Size | None:
    """Return the size by `size` or `aspect_ratio`; None: by the sides, or none at all."""
    if fields.keys() & {"width", "height"}:
        return None
    size, ratio = sent.get("size"), sent.get("aspect_ratio")
    if isinstance(size, str) and SIZE.fullmatch(size):
        return parse_size("size", size)
    found = None if ratio in RATIO_ONLY else asked_ratio("aspect_ratio", ratio)
    found = found or asked_ratio("size", size)
    return best_size(found, card) if found else None


async def _with_files(
    task: Task,
    fields: Fields,
    size: Size | None,
    card: ModelCard,
    request: Request,
    services: Services,
) -> Fields:
    """Return `fields` with the bytes of their files, and a size that the model can generate."""
    for name in (IMAGE, MASK):
        if isinstance(value := fields.get(name), str):
            fields.pop(name)
            fields |= file_field(name, value)
    fields = await fetched(fields, request, services)
    return await to_thread.run_sync(
        _decoded, task, fields, size, card, services, limiter=services.decoding
    )


def _decoded(
    task: Task, fields: Fields, size: Size | None, card: ModelCard, services: Services
) -> Fields:
    files: Fields = {
        name: decode_file(name, fields[name]) for name in (IMAGE, MASK) if name in fields
    }
    data = files.get(IMAGE)
    if task not in (Task.IMG2IMG, Task.INPAINT) or not isinstance(data, bytes):
        return fields | files
    image = services.submitter.images.open(IMAGE, data)
    return fields | files | fitted(image.size, size, fields, card)
