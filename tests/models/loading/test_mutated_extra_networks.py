"""Extra networks with random changes: each is read, or refused by an error of ours.

Their weights are zeros. Checkpoints are in `tests/models/checkpoints/test_mutated_keys.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.weights import Weights
from models.conditioners.clip import ClipConditioner
from models.conditioners.textual_inversion import read_embedding
from models.loading.controlnets import load_controlnet
from models.lora.layers import Layers
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.reading import check_lora, read_lora
from models.pipeline import LatentDiffusion
from models.upscalers.registry import load_upscaler
from tests.models.checkpoints.test_mutated_keys import Entries, changed_keys
from tests.models.loading.test_inspection import write_header
from tests.models.loading.test_mutated_configs import (
    MANY,
    RUNS,
    cache_folder,
    changed,
    is_loaded_or_refused,
)
from tests.models.lora import spellings
from tests.models.upscalers import reference
from tests.support.tiny_models import CONTEXT, write_tiny_controlnet
from tests.support.tiny_upscalers import write_tiny_compact, write_tiny_rrdb

__all__ = ["cache_folder"]  # a fixture of every test here
CPU = torch.device("cpu")


def entries_of(tensors: Mapping[str, Tensor], dtype: str = "F32") -> Entries:
    return {name: (dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def of_a_few(layers: Layers) -> Iterable[spellings.Pairs]:
    """Yield changes of a few layers: all kinds of a UNet, and of both networks."""
    chosen = [*layers.shapes][::9]
    yield spellings.random_pairs(layers, [layer for layer in chosen if layer[0] == UNET])
    yield spellings.random_pairs(layers, chosen)


@pytest.fixture(scope="module")
def loras(tiny_sd: LatentDiffusion) -> list[Entries]:
    unet, both = of_a_few(layers_of(tiny_sd))
    config = tiny_sd.unet.config
    files = (
        spellings.kohya(both),
        spellings.diffusers(both),
        spellings.peft(both),
        spellings.comfy(unet, config),
        spellings.kohya_original(unet, config),
    )
    return [entries_of(tensors) for tensors in files]


def check_changed_lora(
    data: st.DataObject, files: list[Entries], model: LatentDiffusion, folder: Path
) -> None:
    file = folder / "changed.safetensors"
    write_header(file, data.draw(changed_keys(data.draw(st.sampled_from(files)))))
    is_loaded_or_refused(file)
    layers = layers_of(model)
    with suppress(CheckpointError):
        check_lora(file, layers)
    with suppress(CheckpointError):
        read_lora(file, layers)


@RUNS
@given(data=st.data())
def test_changed_lora(
    loras: list[Entries], tiny_sd: LatentDiffusion, tmp_path: Path, data: st.DataObject
) -> None:
    check_changed_lora(data, loras, tiny_sd, tmp_path)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_changed_lora_many_times(
    loras: list[Entries], tiny_sd: LatentDiffusion, tmp_path: Path, data: st.DataObject
) -> None:
    check_changed_lora(data, loras, tiny_sd, tmp_path)


def test_file_that_cannot_be_mapped(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    """The kernel refuses to map more than it could ever hold; the file itself is a hole."""
    path = tmp_path / "large.safetensors"
    write_header(path, {"emb_params": ("F32", (2**36, 1))})
    assert isinstance(tiny_sd.conditioner, ClipConditioner)
    with pytest.raises(CheckpointError):
        read_lora(path, layers_of(tiny_sd))
    with pytest.raises(CheckpointError):
        read_embedding(path, tiny_sd.conditioner)
    with pytest.raises(CheckpointError):
        Weights.open("unet", [path], CPU)


EMBEDDINGS: list[Entries] = [
    {"emb_params": ("F32", (3, CONTEXT))},
    {"<cat>": ("F32", (CONTEXT,))},
    {"clip_l": ("F32", (2, CONTEXT)), "clip_g": ("F32", (2, CONTEXT))},
]


@RUNS
@given(data=st.data(), file=st.sampled_from(EMBEDDINGS))
def test_changed_embedding(
    tiny_sd: LatentDiffusion,
    tiny_sdxl: LatentDiffusion,
    tmp_path: Path,
    data: st.DataObject,
    file: Entries,
) -> None:
    path = tmp_path / "changed.safetensors"
    write_header(path, data.draw(changed_keys(file)))
    is_loaded_or_refused(path)
    for model in (tiny_sd, tiny_sdxl):
        assert isinstance(model.conditioner, ClipConditioner)
        with suppress(CheckpointError):
            read_embedding(path, model.conditioner)


@pytest.fixture(scope="module")
def upscaler_files() -> list[Entries]:
    """Files as published, in every layout of their keys."""
    layouts = (reference.current, reference.numbered)
    rrdb = [entries_of(layout(reference.rrdb().state_dict())) for layout in layouts]
    return [*rrdb, entries_of(reference.compact().state_dict())]


@RUNS
@given(data=st.data())
def test_changed_upscaler_file(
    upscaler_files: list[Entries], tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "changed.safetensors"
    write_header(path, data.draw(changed_keys(data.draw(st.sampled_from(upscaler_files)))))
    is_loaded_or_refused(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_sd_folder: Path) -> list[Path]:
    """A ControlNet and upscalers as they lie in the model store."""
    root: Path = tmp_path_factory.mktemp("networks")
    return [
        write_tiny_controlnet(root / "controlnet", tiny_sd_folder),
        write_tiny_compact(root / "compact"),
        write_tiny_rrdb(root / "rrdb", unshuffle=2),
    ]


@RUNS
@given(data=st.data())
def test_changed_network_folder(folders: list[Path], tmp_path: Path, data: st.DataObject) -> None:
    folder = data.draw(st.sampled_from(folders))
    config = json.loads((folder / "config.json").read_text())
    entries = entries_of(load_file(folder / "diffusion_pytorch_model.safetensors"))
    if data.draw(st.booleans()):
        config = data.draw(changed(config))
    else:
        entries = data.draw(changed_keys(entries))
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_header(tmp_path / "diffusion_pytorch_model.safetensors", entries)
    is_loaded_or_refused(tmp_path)
    with suppress(CheckpointError):
        if folder.name == "controlnet":
            load_controlnet(tmp_path, torch.float32, CPU)
        else:
            load_upscaler(tmp_path, torch.float32, CPU)
