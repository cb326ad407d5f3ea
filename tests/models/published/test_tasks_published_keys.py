"""At their published sizes the paper's models have exactly the parameters of their checkpoints.

On the meta device: the networks are built from the keys, and names and shapes compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import nn

from models.autoencoders.registry import build_first_stage
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.key_plan import shapes_of
from models.checkpoints.meta import meta_device
from models.loading.pipelines import PIPELINES
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import UNetConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.unet import UNet
from tests.support.published import key_list

# Checkpoint of CompVis/latent-diffusion -> its task.
CHECKPOINTS = {
    "celeba256": "unconditional",
    "ffhq256": "unconditional",
    "lsun_beds256": "unconditional",
    "lsun_churches256": "unconditional",
    "cin256": "class",
    "cin256-v2": "class",
    "text2img256": "txt2img",
    "txt2img-1p4B-eval": "txt2img",
    "layout2img-openimages256": "layout",
    "semantic_synthesis256": "semantic",
    "semantic_synthesis512": "semantic",
    "inpainting_big": "inpaint",
    "bsr_sr": "upscale",
}
UNUSED = {"to_logits.weight", "to_logits.bias"}  # of BERT: they predicted words in training
BUILD: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "unet": lambda config: UNet(UNetConfig.from_dict(config)),
    "vqvae": build_first_stage,
    "bert": lambda config: BertEncoder(BertConfig.from_dict(config)),
    "class_embedder": lambda config: ClassEmbedder(ClassEmbedderConfig.from_dict(config)),
    "rescaler": lambda config: SpatialRescaler(SpatialRescalerConfig.from_dict(config)),
}


@pytest.mark.parametrize(("checkpoint", "task"), CHECKPOINTS.items(), ids=CHECKPOINTS)
def test_parameters_and_checkpoint_keys_match(checkpoint: str, task: str) -> None:
    file = detect_file(key_list(f"original/ldm.{checkpoint}"))
    assert PIPELINES[file.family.pipeline].tasks[0] == task
    assert file.unknown == ()
    assert set(file.plans) <= set(BUILD)
    for name, plan in file.plans.items():
        published = shapes_of(plan, file.shapes)
        with meta_device():
            network = BUILD[name](file.config(name, 1.0))
        ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        used = {key: shape for key, shape in published.items() if key not in UNUSED}
        assert ours == used, name
