"""Every kind of first stage runs in every executor, including those that trace it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.autoencoders.registry import build_first_stage
from models.executors import openvino
from models.executors.base import decoder, encoder
from models.executors.eager import Eager, OneByOne
from tests.models.autoencoders.test_against_references import CONFIGS, randomised

TINY = {
    "_class_name": "AutoencoderTiny",
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "num_encoder_blocks": [1, 2, 1],
    "num_decoder_blocks": [2, 1, 1],
}
ASYMMETRIC = {
    "_class_name": "AsymmetricAutoencoderKL",
    "down_block_out_channels": [32, 32, 32, 64],
    "up_block_out_channels": [32, 64, 64, 64],
    "layers_per_up_block": 1,
}
KINDS = {
    "vq-attention": CONFIGS["vq-attention"],
    "tiny": TINY,
    "asymmetric": ASYMMETRIC,
}


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_openvino_output_equals_pytorch(kind: str, tmp_path: Path) -> None:
    stage = build_first_stage(KINDS[kind])
    randomised(stage)
    for network in (decoder(stage, 8), encoder(stage, 32)):
        traced = OneByOne(openvino.OpenVino(network, torch.float32, tmp_path))
        exact = Eager(network, same_bytes=False)
        (example,) = network.examples(2)
        larger = torch.cat([example, example.flip(-1)], dim=-1)
        for x in (example, larger):
            expected = exact(x)
            error = (traced(x) - expected).abs().max() / expected.abs().max()
            assert error < 1e-4
