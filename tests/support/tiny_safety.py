"""A tiny safety checker that flags images similar to a given one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from models.checkpoints.checkpoint import save_component
from models.networks.safety_checker import SafetyChecker, VisionConfig
from worker.engine.safety import clip_input
from worker.interfaces import Pixels

VISION = {
    "image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
CONFIG = {"projection_dim": 24, "vision_config": VISION}


def write_tiny_safety(folder: Path, flagged: Pixels, other: Pixels) -> Path:
    """Write a checker into a model's folder that flags the first image and not the other."""
    torch.manual_seed(3)
    checker = SafetyChecker(VisionConfig.from_dict(CONFIG))
    with torch.no_grad():
        for name, parameter in checker.named_parameters():
            # Only the content of the patches is to matter, not their positions.
            if parameter.ndim > 1 and "position" not in name:
                nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
            else:
                nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
        near, far = (
            checker(clip_input(p, VISION["image_size"])[None])[0] for p in (flagged, other)
        )
        cosine = float(torch.cosine_similarity(near, far, dim=0))
        assert cosine < 0.9, "the images are too similar to be distinguished"
        checker.concept_embeds.copy_(-near.expand_as(checker.concept_embeds))
        checker.concept_embeds[5] = near
        checker.concept_embeds_weights.fill_((1 + cosine) / 2)
        checker.special_care_embeds_weights.fill_(2.0)
    save_component(checker, CONFIG, folder / "safety_checker", "model", torch.float32)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder
