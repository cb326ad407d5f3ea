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
from models.checkpoints.detect.original_plans import SCALE_FACTOR
from models.checkpoints.detect.training_facts import NOTES, UNKNOWN_TRAINING, TrainingFacts
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


def write_model_json(
    folder: Path,
    file: DetectedFile,
    numbers: Mapping[str, float],
    training: TrainingFacts = UNKNOWN_TRAINING,
) -> None:
    """Write all files of a model's folder but its weights and the vocabulary of the paper's models.

    numbers: those in the file by their keys; of them, `scale_factor` is used where the family's own
    factor is 0.

    Raises CheckpointError for a model without a component or scale factor.
    """
    family = file.family
    scaling_factor = family.scaling_factor or numbers.get(SCALE_FACTOR)
    if scaling_factor is None:
        raise CheckpointError(f"{family.title}: the file does not hold its scale_factor")
    index: dict[str, Any] = {"_class_name": family.pipeline, **_pipeline_options(family)}
    scheduler = _scheduler(family, training)
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    for component, plan in file.plans.items():
        if not plan and component == "vae":  # another one may be named in the models config
            index["vae"] = [None, None]
            continue
        if not plan:
            raise CheckpointError(f"{family.title}: the file holds no {component}")
        config = file.config(component, scaling_factor)
        if component == "unet" and scheduler["prediction_type"] == "epsilon":
            config["sample_size"] = family.sample_size_of_epsilon or family.sample_size
        write_json(folder / component / "config.json", config)
        index[component] = list(_CLASSES.get(component) or ("diffusers", config["_class_name"]))
        if component in _TOKENIZERS:
            index[_TOKENIZERS[component]] = ["transformers", "CLIPTokenizer"]
            open_clip = family.open_clip or component == "text_encoder_2"
            pad = {"pad": "!"} if open_clip else {}
            write_clip_tokenizer(folder / _TOKENIZERS[component], **pad)
    if family.image_scheduler is not None:
        name = "low_res_scheduler"
        index[name] = ["diffusers", family.image_scheduler["_class_name"]]
        write_json(folder / name / "scheduler_config.json", family.image_scheduler)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", index)


def _pipeline_options(family: Family) -> Config:
    if family.name.startswith("sdxl"):
        # Podell et al. 2023: zeros for an empty prompt (base), aesthetic scores (refiner).
        refiner = family.name == "sdxl-refiner"
        return {
            "force_zeros_for_empty_prompt": not refiner,
            **({"requires_aesthetics_score": True} if refiner else {}),
        }
    if family.name.startswith(("sd1", "sd2")):
        return {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    return {}


def _scheduler(family: Family, training: TrainingFacts) -> Config:
    """Return the scheduler's configuration: the family's, and what is known of the training."""
    config = {**(training.scheduler or family.scheduler), **training.settings}
    if config.get("rescale_betas_zero_snr") and config["_class_name"] == "PNDMScheduler":
        config["_class_name"] = "DDIMScheduler"  # which has that field
    if training.notes:
        config[NOTES] = list(training.notes)
    return config


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` as indented JSON, and create the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
