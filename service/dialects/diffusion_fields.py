"""Fields of latent diffusion as clients of other APIs name them, and those of our own API."""

from collections.abc import Mapping

from protocol.errors import InvalidRequest
from protocol.request.tasks import Task
from service.dialects.lenient import coerced, number, translated
from service.dialects.sampler_names import sampler_fields
from service.schemas.body_parser import Fields, list_fields, parse_json_text
from service.schemas.requests import REQUESTS, TaskRequest

# Names in vLLM-Omni, SGLang, LocalAI, LobeChat and stable-diffusion.cpp, and our name.
ALIASES = {
    "num_inference_steps": "steps",
    "step": "steps",
    "cfg_scale": "guidance_scale",
    "cfg": "guidance_scale",
    "denoising_strength": "strength",
    "lora": "loras",
}
SAMPLERS = ("sampler", "sampler_name", "scheduler")  # each may also name a schedule
# Fields of our API that other APIs have themselves, or that follow from their fields.
OTHERS = frozenset(
    {"prompt", "model", "n", "quality", "output_format", "previews", "response", "sampler"}
)
OWN = tuple(name for name in TaskRequest.model_fields if name not in OTHERS)
NAMES = {**{name: name for name in OWN}, **ALIASES}


def extra_fields(fields: Fields, task: Task) -> tuple[Fields, dict[str, str]]:
    """Return our fields in a request, and the client's name of each. Raises `InvalidRequest`."""
    filled_in = {
        name: value
        for name, value in fields.items()
        if value != "" or name == "negative_prompt"  # which may be empty
    }
    ours, names = translated(filled_in, NAMES)
    _add_sampler(filled_in, ours, names)
    schema = REQUESTS[task]
    for name in list_fields(schema) & ours.keys():
        if isinstance(text := ours[name], str):  # in a form
            ours[name] = parse_json_text(names[name], text)
    if "loras" in ours:
        ours["loras"] = _loras(names["loras"], ours["loras"])
    return coerced(ours, schema), names


def _add_sampler(fields: Fields, ours: Fields, names: dict[str, str]) -> None:
    for name in SAMPLERS:
        value = fields.get(name)
        if value is None:
            continue
        found = sampler_fields(value) if isinstance(value, str) else {"sampler": value}
        for field, choice in found.items():
            if ours.setdefault(field, choice) != choice:
                bound = f"left out, or the same as {names[field]}"
                raise InvalidRequest(name, value, bound, "given-twice")
            names.setdefault(field, name)


def _loras(field: str, value: object) -> object:
    """Return a list of LoRAs, or one alone, as ours, where `scale` is `weight`."""
    uses = value if isinstance(value, list) else [value]
    return [_lora(field, use) for use in uses]


def _lora(field: str, use: object) -> object:
    if not isinstance(use, Mapping):
        raise InvalidRequest(field, use, "an object with name and scale", "wrong-type")
    return {"name": use.get("name"), "weight": number(use.get("weight", use.get("scale")))}
