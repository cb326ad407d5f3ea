"""The names of layers in LoRA files, as data.

A key is a layer's name and a suffix (`models.checkpoints.keys.adapters`). A name whose dots became
underscores cannot be split again. Therefore all possible names of a model's layers are listed, and
a key is looked up in the list.

    kohya      lora_unet_…, lora_te_… (lora_te1_…, lora_te2_…), with underscores; for SDXL also with
               the names of the original code (sd-scripts, networks/lora.py)
    LyCORIS    lycoris_…, of a UNet, with underscores; else like kohya
    ComfyUI    diffusion_model.…, the original names with dots; text_encoders.clip_l.transformer.…,
               clip_g, clip_h (comfy/lora.py, comfy_extras/nodes_lora_extract.py)
    OneTrainer unet.…, the original names with dots, and clip_l.…, clip_g.…
    diffusers  unet.…, text_encoder.…, text_encoder_2.…; before 0.23 with `.processor.to_q_lora`
    PEFT       base_model.model.…, or without a prefix, of one network, whichever has such a layer
"""

from __future__ import annotations

from collections.abc import Iterator

UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"

_UNDERSCORED = {
    UNET: ("lora_unet_", "lycoris_"),
    TEXT: ("lora_te_", "lora_te1_"),
    TEXT_2: ("lora_te2_",),
}
_DOTTED = {
    UNET: ("unet.base_model.model.",),
    TEXT: ("text_encoders.clip_l.transformer.", "text_encoders.clip_h.transformer.", "clip_l."),
    TEXT_2: ("text_encoders.clip_g.transformer.", "clip_g."),
}
_ORIGINAL = ("diffusion_model.", "model.diffusion_model.", "unet.")

# The projections of attention in older files of diffusers, by the last part of our names.
_PROCESSORS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
_TEXT_PROCESSORS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def spellings(component: str, path: str, original: str | None) -> Iterator[str]:
    """Yield every name that a file may have for the layer at `path` of `component`.

    original: its name in the original code, for layers of a UNet.
    """
    yield path
    for dotted in (path, *_without_text_model(path)):
        for prefix in (f"{component}.", "base_model.model.", *_DOTTED[component]):
            yield prefix + dotted
        for prefix in _UNDERSCORED[component]:
            yield prefix + dotted.replace(".", "_")
    for processor in _processors(component, path):
        yield f"{component}.{processor}"
        yield processor
    if original is not None:
        yield "lora_unet_" + original.replace(".", "_")
        for prefix in _ORIGINAL:
            yield prefix + original


def _without_text_model(path: str) -> Iterator[str]:
    """Yield the name that transformers 5 writes, without `text_model.`."""
    if path.startswith("text_model."):
        yield path.removeprefix("text_model.")


def _processors(component: str, path: str) -> Iterator[str]:
    last = {UNET: _PROCESSORS}.get(component, _TEXT_PROCESSORS)
    for ours, theirs in last.items():
        if path.endswith(f".{ours}"):
            attention = path.removesuffix(f".{ours}")
            yield f"{attention}.{theirs}"
            if component == UNET:
                yield f"{attention}.processor.{theirs}"
