"""Graphs as ComfyUI's clients send them, and cards with something of everything."""

import json
import random
from collections.abc import Mapping
from typing import Any

from protocol.request.model_card import ModelCard, UpscalerInfo
from protocol.request.request import Decoder
from protocol.request.tasks import Task
from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.draft import Draft
from service.dialects.comfyui.graph.errors import GraphRefused
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import parse_graph
from service.dialects.comfyui.graph.requests import request_of
from service.dialects.comfyui.graph.resolution import resolve_graph
from tests.service.conftest import CARD

Graph = dict[str, dict[str, Any]]

COMFY_CARD = CARD.model_copy(
    update={
        "tasks": (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT, Task.OUTPAINT),
        "samplers": ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"),
        "schedules": ("leading", "karras", "normal", "simple"),
        "loras": ("detail", "style"),
        "embeddings": ("easy",),
        "controlnets": ("canny", "depth"),
        "upscalers": (UpscalerInfo(name="4x-net", scale=4),),
        "refiners": ("refiner",),
        "decoders": (Decoder.FULL, Decoder.TINY),
        "max_images": 8,
    }
)
XL_CARD = COMFY_CARD.model_copy(update={"name": "xl", "family": "sdxl", "aliases": ("sdxl",)})
REFINER_CARD = COMFY_CARD.model_copy(update={"name": "refiner", "family": "sdxl", "refiners": ()})
CARDS: Mapping[str, ModelCard] = {card.name: card for card in (COMFY_CARD, XL_CARD, REFINER_CARD)}
FILES = {
    ("input", "cat.png"): (64, 64),
    ("input", "sub/wide.png"): (128, 64),
    ("output", "mine.png"): (64, 64),
}
OFFER = Offer(CARDS, FILES)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def text_to_image(**sampler: Any) -> Graph:
    """Return the graph of ComfyUI's start page, in its ids; `sampler` changes the KSampler."""
    settings = {
        "seed": 5,
        "steps": 4,
        "cfg": 8,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1,
    }
    links = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    return {
        "3": node("KSampler", **{**settings, **links, **sampler}),
        "4": node("CheckpointLoaderSimple", ckpt_name="tiny"),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("CLIPTextEncode", text="a red heart", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blue", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }


def image_to_image(**sampler: Any) -> Graph:
    graph = text_to_image(**{"denoise": 0.5, **sampler})
    graph["10"] = node("LoadImage", image="cat.png")
    graph["5"] = node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    return graph


def inpainting(**sampler: Any) -> Graph:
    graph = image_to_image(**sampler)
    graph["11"] = node("SetLatentNoiseMask", samples=["5", 0], mask=["10", 1])
    graph["3"]["inputs"]["latent_image"] = ["11", 0]
    return graph


def for_inpainting(**sampler: Any) -> Graph:
    graph = image_to_image(**{"denoise": 1.0, **sampler})
    inputs = {"pixels": ["10", 0], "vae": ["4", 2], "mask": ["10", 1], "grow_mask_by": 6}
    graph["5"] = node("VAEEncodeForInpaint", **inputs)
    return graph


def outpainting(**sampler: Any) -> Graph:
    graph = for_inpainting(**sampler)
    sides = {"left": 0, "top": 0, "right": 64, "bottom": 0, "feathering": 8}
    graph["12"] = node("ImagePadForOutpaint", image=["10", 0], **sides)
    graph["5"]["inputs"] |= {"pixels": ["12", 0], "mask": ["12", 1]}
    return graph


def hires(**second: Any) -> Graph:
    graph = text_to_image()
    graph["20"] = node(
        "LatentUpscaleBy", samples=["3", 0], upscale_method="nearest-exact", scale_by=1.5
    )
    inputs = {**graph["3"]["inputs"], "latent_image": ["20", 0], "denoise": 0.5, **second}
    graph["21"] = node("KSampler", **inputs)
    graph["8"]["inputs"]["samples"] = ["21", 0]
    return graph


def pixel_hires(**second: Any) -> Graph:
    graph = hires(**second)
    graph["22"] = node("VAEDecode", samples=["3", 0], vae=["4", 2])
    graph["23"] = node("ImageScaleBy", image=["22", 0], upscale_method="lanczos", scale_by=2)
    graph["20"] = node("VAEEncode", pixels=["23", 0], vae=["4", 2])
    return graph


def refined(**refiner: Any) -> Graph:
    """Return the graph of a base model and its refiner."""
    base = {"add_noise": "enable", "noise_seed": 5, "steps": 10, "cfg": 8, "start_at_step": 0}
    names = {"sampler_name": "euler", "scheduler": "normal"}
    graph = text_to_image()
    links = {name: graph["3"]["inputs"][name] for name in ("model", "positive", "negative")}
    graph["4"]["inputs"]["ckpt_name"] = "xl"
    graph["3"] = node(
        "KSamplerAdvanced",
        **{**base, **names, **links, "latent_image": ["5", 0], "end_at_step": 8},
        return_with_leftover_noise="enable",
    )
    graph["30"] = node("CheckpointLoaderSimple", ckpt_name="refiner")
    graph["31"] = node("CLIPTextEncode", text="a red heart", clip=["30", 1])
    graph["32"] = node("CLIPTextEncode", text="blue", clip=["30", 1])
    links = {"model": ["30", 0], "positive": ["31", 0], "negative": ["32", 0]}
    last: dict[str, Any] = {"add_noise": "disable", "start_at_step": 8, "end_at_step": 10_000}
    last["return_with_leftover_noise"] = "disable"
    graph["33"] = node(
        "KSamplerAdvanced",
        **{**base, **names, **links, **last, "latent_image": ["3", 0], **refiner},
    )
    graph["8"]["inputs"] = {"samples": ["33", 0], "vae": ["30", 2]}
    return graph


def upscaling() -> Graph:
    return {
        "1": node("LoadImage", image="cat.png"),
        "2": node("UpscaleModelLoader", model_name="4x-net"),
        "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
        "4": node("SaveImage", filename_prefix="big", images=["3", 0]),
    }


def with_lora(weight: float = 0.5, graph: Graph | None = None) -> Graph:
    graph = graph or text_to_image()
    strengths = {"strength_model": weight, "strength_clip": weight}
    graph["40"] = node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="detail", **strengths)
    graph["3"]["inputs"]["model"] = ["40", 0]
    for name in ("6", "7"):
        graph[name]["inputs"]["clip"] = ["40", 1]
    return graph


def with_controlnet(graph: Graph | None = None) -> Graph:
    graph = graph or text_to_image()
    graph["50"] = node("ControlNetLoader", control_net_name="canny")
    graph["51"] = node("LoadImage", image="sub/wide.png")
    links = {"control_net": ["50", 0], "image": ["51", 0]}
    share = {"strength": 0.75, "start_percent": 0.25, "end_percent": 0.5}
    graph["52"] = node(
        "ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], **links, **share
    )
    graph["3"]["inputs"] |= {"positive": ["52", 0], "negative": ["52", 1]}
    return graph


TEMPLATES = {
    one.__name__: one
    for one in (
        *(text_to_image, image_to_image, inpainting, for_inpainting, outpainting, hires),
        *(pixel_hires, refined, upscaling, with_lora, with_controlnet),
    )
}


def resolved(graph: Any, offer: Offer = OFFER) -> Draft:
    """Return the request of a graph."""
    parsed = parse_graph(graph, NODES)
    return request_of(parsed, resolve_graph(parsed, offer), offer)


def refusal(graph: Any, offer: Offer = OFFER) -> dict[str, Any]:
    """Return the answer to a graph that must be refused, in ComfyUI's form."""
    try:
        resolved(graph, offer)
    except GraphRefused as error:
        body: dict[str, Any] = json.loads(json.dumps(error.body()))
        return body
    raise AssertionError("the graph was not refused")


def fault(graph: Any, offer: Offer = OFFER) -> tuple[str, str, str]:
    """Return class, type and details of the one error of a node."""
    [found] = refusal(graph, offer)["node_errors"].values()
    [error] = found["errors"]
    return found["class_type"], error["type"], error["details"]


def shuffled(graph: Graph, seed: int) -> Graph:
    """Return the same graph with other ids, in another order."""
    mixed = random.Random(seed)
    ids = [str(number) for number in mixed.sample(range(10_000), len(graph))]
    names = dict(zip(graph, ids, strict=True))

    def renamed(value: Any) -> Any:
        is_link = isinstance(value, list) and value and value[0] in names
        return [names[value[0]], *value[1:]] if is_link else value

    nodes = [
        (
            names[node_id],
            {
                "inputs": {
                    name: renamed(value)
                    for name, value in mixed.sample(list(one["inputs"].items()), len(one["inputs"]))
                },
                "class_type": one["class_type"],
                "_meta": {"title": "x"},
            },
        )
        for node_id, one in graph.items()
    ]
    mixed.shuffle(nodes)
    return dict(nodes)
