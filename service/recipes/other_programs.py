"""Parameters in the images of InvokeAI, ComfyUI, NovelAI and Fooocus.

They are read as they are; nothing follows a link twice, so time and memory are linear in the text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from protocol.recipes.names import INFOTEXT_KEY
from service.recipes.json_texts import Scalars, object_in, read_object, scalars

Texts = Mapping[str, str]
Node = dict[str, Any]

PROMPT_INPUTS = ("text", "text_g", "positive", "negative", "prompt")
MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name")


def fooocus(texts: Texts) -> Scalars:
    """Return Fooocus' parameters, empty if the texts are not its own."""
    found = read_object(texts.get(INFOTEXT_KEY, ""))
    return scalars(found) if "base_model" in found else {}


def invokeai(texts: Texts) -> Scalars:
    """Return InvokeAI's parameters, empty if the texts are not its own."""
    if metadata := read_object(texts.get("invokeai_metadata", "")):
        model = object_in(metadata, "model")
        return scalars(metadata | {"model": model.get("name", model.get("model_name"))})
    if metadata := read_object(texts.get("sd-metadata", "")):  # of its version 2
        image = object_in(metadata, "image")
        changed = {"model": metadata.get("model_weights"), "prompt": _joined(image.get("prompt"))}
        return scalars(image | changed)
    return {}


def _joined(prompts: object) -> object:
    """Return a list of prompts with weights as one text, anything else as it is."""
    if not isinstance(prompts, list):
        return prompts
    found = (one.get("prompt") for one in prompts if isinstance(one, dict))
    return ", ".join(text for text in found if isinstance(text, str))


def novelai(texts: Texts) -> Scalars:
    """Return NovelAI's parameters, empty if the texts are not its own."""
    if not texts.get("Software", "").startswith("NovelAI"):
        return {}
    described = {"prompt": texts["Description"]} if "Description" in texts else {}
    return scalars(read_object(texts.get("Comment", ""))) | described


def comfyui(texts: Texts) -> Scalars:
    """Return the parameters of the first sampler of ComfyUI's graph, with its prompts and model."""
    graph = {
        key: node for key, node in read_object(texts.get("prompt", "")).items() if _inputs(node)
    }
    sampler = next((node for node in graph.values() if "steps" in _inputs(node)), None)
    if sampler is None:
        return {}
    found = scalars(_inputs(sampler))
    for name, field, keys in (
        ("prompt", "positive", PROMPT_INPUTS),
        ("negative_prompt", "negative", PROMPT_INPUTS),
        ("model", "model", MODEL_INPUTS),
    ):
        if (text := _text_before(graph, _inputs(sampler).get(field), keys)) is not None:
            found[name] = text
    return found


def _inputs(node: Any) -> Node:
    return object_in(node, "inputs") if isinstance(node, dict) else {}


def _text_before(graph: Mapping[str, Node], link: object, keys: tuple[str, ...]) -> str | None:
    """Return the first text in one of the inputs `keys` of the nodes that `link` comes from."""
    for node in _nodes_before(graph, link):
        inputs = _inputs(node)
        text = next((inputs[key] for key in keys if isinstance(inputs.get(key), str)), None)
        if text is not None:
            return str(text)
    return None


def _nodes_before(graph: Mapping[str, Node], link: object) -> Iterator[Node]:
    """Yield the nodes that lead to a link, the nearest first, each once."""
    waiting, seen = [link], set[str]()
    for following in waiting:  # grows meanwhile
        name = _source(following)
        if name in seen or name not in graph:
            continue
        seen.add(name)
        yield graph[name]
        waiting += [value for value in _inputs(graph[name]).values() if _source(value)]


def _source(link: object) -> str:
    """Return the name of the node in a link, which is a list of it and an output; else ""."""
    match link:
        case [str() as name, int()]:
            return name
        case _:
            return ""
