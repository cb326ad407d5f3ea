"""The JSON files of a model folder in the diffusers layout, for a model in a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoints.detect.clip_tokenizer import write_clip_tokenizer
from models.checkpoints.detect.configs import Config
from models.checkpoints.detect.detected_file import DetectedFile
from models.checkpoints.detect.families import Family
from models.checkpoints.errors import CheckpointError

# Package and class of a component's network in model_index.json; ours where diffusers has none.
_CLASSES = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "bert": ("latent_diffusion", "LDMBertModel"),
    "class_embedder": ("darkroom", "ClassEmbedder"),
    "rescaler": ("darkroom", "SpatialRescaler"),
}
_TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def weights_name(component: str) -> str:
    """Return the name of the safetensors file of a component or network."""
    is_text = component.startswith(("text_encoder", "safety_checker", "bert"))
    return f"{'model' if is_text else 'diffusion_pytorch_model'}.safetensors"


def write_model_json(folder: Path, file: DetectedFile, scale_factor: float | None) -> None:
    """Write all files of a model's folder but its weights and the vocabulary of the paper's models.

    scale_factor: the buffer of that name in the file, used where the family's own factor is 0.

    Raises CheckpointError for a model without a component or scale factor.
    """
    family = file.family
    scaling_factor = family.scaling_factor or scale_factor
    if scaling_factor is None:
        raise CheckpointError(f"{family.title}: the file does not hold its scale_factor")
    index: dict[str, Any] = {"_class_name": family.pipeline, **_pipeline_options(family)}
    index["scheduler"] = ["diffusers", family.scheduler["_class_name"]]
    for component, plan in file.plans.items():
        if not plan:
            raise CheckpointError(f"{family.title}: the file holds no {component}")
        config = file.config(component, scaling_factor)
        write_json(folder / component / "config.json", config)
        index[component] = list(_CLASSES.get(component) or ("diffusers", config["_class_name"]))
        if component in _TOKENIZERS:
            index[_TOKENIZERS[component]] = ["transformers", "CLIPTokenizer"]
            pad = {"pad": "!"} if component == "text_encoder_2" else {}
            write_clip_tokenizer(folder / _TOKENIZERS[component], **pad)
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(file))
    write_json(folder / "model_index.json", index)


def _pipeline_options(family: Family) -> Config:
    if family.name.startswith("sdxl"):
        # Podell et al. 2023: zeros for an empty prompt (base), aesthetic scores (refiner).
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


def _scheduler(file: DetectedFile) -> Config:
    """Return the scheduler's configuration; marker keys tell how a fine-tuned model was trained."""
    config = dict(file.family.scheduler)
    if "v_pred" in file.shapes:
        config["prediction_type"] = "v_prediction"
    if "ztsnr" in file.shapes:  # the schedule ends without signal
        config["rescale_betas_zero_snr"] = True
    return config


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` as indented JSON, and create the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
