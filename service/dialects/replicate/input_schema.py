"""The OpenAPI schema of a version: the inputs of a model, by its card."""

from typing import Any

from protocol.request.model_card import ModelCard
from protocol.request.object_keys import OutputFormat
from protocol.request.samplers import SAMPLERS
from protocol.request.tasks import Task

Schema = dict[str, Any]

IMAGE_TASKS = frozenset(task for task in Task if task.takes_image)
FILE: Schema = {"type": "string", "format": "uri"}
OUTPUT: Schema = {"type": "array", "items": FILE, "title": "Output"}
REFERENCE = "#/components/schemas/{name}"
MAX_SEED = 2**53 - 1


def openapi_schema(card: ModelCard) -> Schema:
    """Return the OpenAPI description of a model as cog writes it: Input, Output, their route."""
    body = {"$ref": REFERENCE.format(name="Input")}
    answer = {"$ref": REFERENCE.format(name="Output")}
    operation = {
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The images.",
                "content": {"application/json": {"schema": answer}},
            }
        },
    }
    return {
        "openapi": "3.0.2",
        "info": {"title": card.name, "version": "1"},
        "paths": {"/predictions": {"post": operation}},
        "components": {"schemas": {"Input": input_schema(card), "Output": OUTPUT}},
    }


def input_schema(card: ModelCard) -> Schema:
    """Return the schema of the inputs; those without a title have that of their name."""
    fields = {**_prompts(card), **_files(card), **_numbers(card), **_choices(card)}
    properties = {
        name: {"title": name.replace("_", " ").capitalize(), **field, "x-order": order}
        for order, (name, field) in enumerate(fields.items())
    }
    needs_prompt = card.reads_prompts and Task.TXT2IMG in card.tasks
    return {
        "type": "object",
        "title": "Input",
        "properties": properties,
        **({"required": ["prompt"]} if needs_prompt else {}),
    }


def _prompts(card: ModelCard) -> Schema:
    if not card.reads_prompts:
        return {}
    return {
        "prompt": {"type": "string", "description": "What the image shows."},
        "negative_prompt": {"type": "string", "description": "What it does not.", "default": ""},
    }


def _files(card: ModelCard) -> Schema:
    files: Schema = {}
    if IMAGE_TASKS & set(card.tasks):
        files["image"] = FILE | {"description": "The image to change."}
    if Task.INPAINT in card.tasks:
        files["mask"] = FILE | {"description": "White is generated again, black is kept."}
    return files


def _numbers(card: ModelCard) -> Schema:
    side = {"minimum": card.min_side, "maximum": card.max_side, "multipleOf": card.size_multiple}
    return {
        "width": _integer("Pixels.", card.default_width, **side),
        "height": _integer("Pixels.", card.default_height, **side),
        "num_outputs": _integer("Number of images.", 1, minimum=1, maximum=card.max_images),
        "num_inference_steps": _integer(
            "Denoising steps.", card.default_steps, minimum=1, maximum=card.max_steps
        ),
        "guidance_scale": {
            "type": "number",
            "description": "How closely the image follows the prompt.",
            "default": card.default_guidance_scale,
            "minimum": 0,
            "maximum": card.max_guidance_scale,
        },
        "prompt_strength": {
            "type": "number",
            "description": "How much an image changes; 1 uses nothing of it.",
            "default": card.default_strength,
            "minimum": 0,
            "maximum": 1,
        },
        "seed": {
            "type": "integer",
            "description": "Leave it out for a random one.",
            "minimum": 0,
            "maximum": MAX_SEED,
        },
    }


def _integer(description: str, default: int, **bounds: int) -> Schema:
    return {"type": "integer", "description": description, "default": default, **bounds}


def _choices(card: ModelCard) -> Schema:
    return {
        "aspect_ratio": {
            "type": "string",
            "description": "An aspect such as 16:9, in place of width and height.",
        },
        "scheduler": {
            "type": "string",
            "enum": list(card.samplers),
            "default": card.default_sampler,
            "description": "Also by the names of diffusers' classes: "
            + ", ".join(_classes(card))
            + ".",
        },
        "output_format": {
            "type": "string",
            "enum": [kind.value for kind in OutputFormat],
            "default": OutputFormat.PNG.value,
        },
        "output_quality": _integer("Of JPEG, WebP and AVIF.", 90, minimum=1, maximum=100),
    }


def _classes(card: ModelCard) -> list[str]:
    found = (SAMPLERS[name].scheduler for name in card.samplers if name in SAMPLERS)
    return list(dict.fromkeys(name for name in found if name))
