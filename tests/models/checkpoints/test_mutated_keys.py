"""Key lists with random changes: each file is loaded, or refused by an error of ours.

The small ones always run. Those of `../shared` are of published files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints.readers.headers import ITEM_BYTES
from tests.models.checkpoints import published
from tests.models.checkpoints.references import original, small
from tests.models.loading.test_inspection import write_header
from tests.models.loading.test_mutated_configs import MANY, RUNS, is_loaded_or_refused

# The package calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning")

Only = Callable[..., None]
Entries = dict[str, tuple[str, tuple[int, ...]]]
shapes = st.lists(st.sampled_from([0, 1, 3, 4, 32, 48, 77, 320]), max_size=5).map(tuple)
dtypes = st.sampled_from(sorted(ITEM_BYTES))
new_keys = st.sampled_from(
    [
        "",
        "x",
        "control_model.input_hint_block.0.weight",
        "model.diffusion_model.input_blocks.1.2.weight",
        "model.diffusion_model.input_blocks.99999999999.0.weight",
        "model.diffusion_model.output_blocks.11.2.conv.weight",
        "first_stage_model.decoder.up.7.block.0.conv1.weight",
        "first_stage_model.encoder.norm_out.weight",
        "cond_stage_model.transformer.attn_layers.layers.x.0.weight",
        "conditioner.embedders.0.model.transformer.resblocks.3.attn.in_proj_weight",
        "quantize.embedding.weight",
        "input_blocks.0.0.weight",
        "lora_unet_x.lora_down.weight",
    ]
)


@st.composite
def changed_keys(draw: st.DrawFn, entries: Entries) -> Entries:
    """Draw one to three changes: a tensor dropped, added, renamed, of another shape or type."""
    entries = dict(entries)
    names = sorted(entries)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        dtype, shape = entries.get(name, ("F32", (1,)))
        match draw(st.sampled_from(["drop", "below", "add", "rename", "shape", "type"])):
            case "drop":
                entries.pop(name, None)
            case "below":  # a whole module
                prefix = ".".join(name.split(".")[: draw(st.integers(1, 5))])
                entries = {k: v for k, v in entries.items() if not k.startswith(prefix)}
            case "add":
                entries[draw(new_keys)] = draw(dtypes), draw(shapes)
            case "rename":
                entries.pop(name, None)
                entries[name.replace(".0.", ".1.", 1)] = dtype, shape
            case "shape":
                entries[name] = dtype, draw(st.one_of(shapes, st.just(shape[::-1])))
            case "type":
                entries[name] = draw(dtypes), shape
    return entries


@cache
def small_list(name: str) -> Entries:
    state = original(name).state
    return {key: ("F32", tuple(tensor.shape)) for key, tensor in state.items()}


def check_keys(data: st.DataObject, entries: Entries, folder: Path) -> None:
    file = folder / "changed.safetensors"
    write_header(file, data.draw(changed_keys(entries), label="tensors"))
    is_loaded_or_refused(file)


SMALL = ("sd1", "ldm-churches", "ldm-layout")


@pytest.fixture
def small_families(only: Only) -> None:
    only(*map(small, SMALL))


@settings(RUNS, max_examples=10)
@given(data=st.data(), name=st.sampled_from(SMALL))
def test_changed_key_list(
    small_families: None, tmp_path: Path, data: st.DataObject, name: str
) -> None:
    check_keys(data, small_list(name), tmp_path)


@pytest.mark.long
@settings(MANY, max_examples=400)
@given(data=st.data(), name=st.sampled_from(SMALL))
def test_changed_key_list_many_times(
    small_families: None, tmp_path: Path, data: st.DataObject, name: str
) -> None:
    check_keys(data, small_list(name), tmp_path)


@cache
def published_list(name: str) -> Entries:
    return {key: ("F16", shape) for key, shape in published.original(name).items()}


@settings(RUNS, max_examples=10)
@given(data=st.data(), name=st.sampled_from(published.FIRST_STAGES))
def test_changed_published_first_stage(tmp_path: Path, data: st.DataObject, name: str) -> None:
    check_keys(data, published_list(name), tmp_path)


@pytest.mark.long
@settings(MANY, max_examples=60)
@given(data=st.data(), name=st.sampled_from(list(published.FAMILIES)))
def test_changed_published_key_list(tmp_path: Path, data: st.DataObject, name: str) -> None:
    check_keys(data, published_list(name), tmp_path)
