"""The kind of a file is that of most of its keys, and odd keys are named."""

from __future__ import annotations

import pytest

from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.detect.kinds import Kind, detect_kind
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape
from tests.models.checkpoints.published import original
from tests.support.published import SD15, key_list

STRAY: dict[str, Shape] = {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (8, 4)}
PAIR: dict[str, Shape] = {
    "unet.conv_in.lora_A.weight": (4, 4),
    "unet.conv_in.lora_B.weight": (8, 4),
}


@pytest.mark.parametrize(
    "stray",
    [*STRAY, "model.diffusion_model.out.2.lora_down.weight", "lora_te_x.alpha", "x.dora_scale"],
)
def test_stray_lora_key_does_not_make_a_checkpoint_a_lora(stray: str) -> None:
    file = detect_file({**original("ldm.cin256-v2"), stray: (4, 4)})
    assert file.kind == "model"
    assert file.unknown == (stray,)


@pytest.mark.parametrize(("part", "kind"), [("unet", "unet"), ("vae", "vae")])
def test_stray_lora_key_in_a_network_is_unexpected(part: str, kind: Kind) -> None:
    file = detect_file({**key_list(f"{SD15}.{part}"), **STRAY})
    assert file.kind == kind
    assert STRAY.keys() <= file.parameters(kind).keys()


@pytest.mark.parametrize(
    "keys",
    [
        PAIR,
        {**PAIR, "model.diffusion_model.out.2.weight": (4, 320)},
        {"diffusion_model.out.0.diff": (320,), "diffusion_model.out.0.diff_b": (320,)},
        {"lora_unet_x.oft_blocks": (2, 2, 2), "lora_unet_x.alpha": ()},
        {"unet:0:up": (8, 4), "unet:0:down": (4, 8)},
        {"lora_unet_x.lora_down.weight": (4, 4), "some.weight": (2,)},
    ],
)
def test_file_of_adapter_keys_is_a_lora(keys: dict[str, Shape]) -> None:
    assert detect_kind(keys) == "lora"


@pytest.mark.parametrize(
    "keys",
    [
        {"emb_params": (3, 512)},
        {"<my-cat>": (512,)},
        {"clip_l": (2, 768), "clip_g": (2, 1280)},
        {"string_to_param.*": (2, 768), "string_to_token.*": ()},
        {"string_to_param.<hat>": (200, 768), "string_to_token.<hat>": ()},
    ],
)
def test_embedding_of_any_width_and_placeholder_is_one(keys: dict[str, Shape]) -> None:
    assert detect_kind(keys) == "embedding"


@pytest.mark.parametrize(
    "keys", [{"conv.weight": (8, 8)}, {"a": (2,), "b": (2,)}, {"x": (2, 2, 2)}]
)
def test_other_files_are_of_no_kind(keys: dict[str, Shape]) -> None:
    with pytest.raises(CheckpointError, match="it is none of model, lora"):
        detect_kind(keys)
