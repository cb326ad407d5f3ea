"""The JSON files of a model folder in the published layout, for what came as a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoints.detect.clip_tokenizer import write_clip_tokenizer
from models.checkpoints.detect.configs import Config, component_config
from models.checkpoints.detect.families import Family
from models.checkpoints.detect.original import Contents
from models.checkpoints.errors import CheckpointError
from models.checkpoints.parts import Shape, shapes_of

# Which package and class a component's network has there; ours for what diffusers has not.
_CLASSES = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "bert": ("latent_diffusion", "LDMBertModel"),
    "class_embedder": ("darkroom", "ClassEmbedder"),
    "rescaler": ("darkroom", "SpatialRescaler"),
}
_TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def stem(part: str) -> str:
    """What the weights of a component are called, without suffix."""
    return "model" if part.startswith(("text_encoder", "safety_checker", "bert")) else (
        "diffusion_pytorch_model"
    )  # fmt: skip


def write_json_files(
    folder: Path,
    family: Family,
    contents: Contents,
    shapes: Mapping[str, Shape],
    buffers: Mapping[str, float],
) -> None:
    """Everything of a model's folder but its weights and the paper's vocabularies.

    `buffers`: values of the file that are no weights; `scale_factor` is asked for where the
    family's own is 0, and `v_pred` and `ztsnr` mark how a fine-tuned model was trained.
    """
    scaling_factor = family.scaling_factor or buffers.get("scale_factor")
    if scaling_factor is None:
        raise CheckpointError(f"{family.title}: the file does not hold its scale_factor")
    index: dict[str, Any] = {"_class_name": family.pipeline, **_extras(family)}
    index["scheduler"] = ["diffusers", family.scheduler["_class_name"]]
    for part, plan in contents.components.items():
        if not plan:
            raise CheckpointError(f"{family.title}: the file holds no {part}")
        config = component_config(part, shapes_of(plan, shapes), family, scaling_factor)
        write_json(folder / part / "config.json", config)
        index[part] = list(_CLASSES.get(part) or ("diffusers", config["_class_name"]))
        if part in _TOKENIZERS:
            index[_TOKENIZERS[part]] = ["transformers", "CLIPTokenizer"]
            pad = {"pad": "!"} if part == "text_encoder_2" else {}
            write_clip_tokenizer(folder / _TOKENIZERS[part], **pad)
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(family, buffers))
    write_json(folder / "model_index.json", index)


def _extras(family: Family) -> Config:
    if family.name.startswith("sdxl"):
        # Podell et al. 2023: the base was trained with zeros for no prompt, the refiner on scores.
        refiner = family.name == "sdxl-refiner"
        return {
            "force_zeros_for_empty_prompt": not refiner,
            **({"requires_aesthetics_score": True} if refiner else {}),
        }
    if family.name.startswith("sd1"):
        return {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    return {}


def _scheduler(family: Family, buffers: Mapping[str, float]) -> Config:
    config = dict(family.scheduler)
    if "v_pred" in buffers:
        config["prediction_type"] = "v_prediction"
    if "ztsnr" in buffers:
        config["rescale_betas_zero_snr"] = True
    return config


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """`data` as readable JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
