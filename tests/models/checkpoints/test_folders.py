"""Model folders in other formats: pickles, shards, half precision, Paddle."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from darkroom.__main__ import main
from models.autoencoders.registry import load_compatible
from models.checkpoints.checkpoint import CheckpointError, load_component
from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.hub import fetch_component
from models.loading.loader import load_model
from models.loading.replacements import resolve_network
from models.networks.config import UNetConfig
from models.networks.unet import UNet
from tests.support.tiny_models import write_tiny_sd, write_tiny_sdxl

CPU = torch.device("cpu")
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """Copy the model, to be written in another format."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """Use a model store for this test, also in the command line."""
    store = ModelStore(tmp_path / "home")
    monkeypatch.setenv("DARKROOM_MODELS_HOME", str(store.root))
    return store


def weights(folder: Path, part: str) -> dict[str, Tensor]:
    return load_file(folder / part / f"{WEIGHTS[part]}.safetensors")


def rewritten(folder: Path, write: Callable[[Path, dict[str, Tensor]], None]) -> None:
    """Replace the safetensors by `write(folder of the component, tensors)`."""
    for part, stem in WEIGHTS.items():
        tensors = weights(folder, part)
        (folder / part / f"{stem}.safetensors").unlink()
        write(folder / part, tensors)


def same_weights(added: Path, original: Path) -> bool:
    for part in WEIGHTS:
        found, expected = weights(added, part), weights(original, part)
        if found.keys() != expected.keys():
            return False
        if not all(torch.equal(found[name], tensor) for name, tensor in expected.items()):
            return False
    return True


def as_pickles(part: Path, tensors: dict[str, Tensor]) -> None:
    """Write pickles, with the old names of attention in the autoencoder."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    if part.name == "vae":
        for new, legacy in old.items():
            tensors = {k.replace(f".{new}.", f".{legacy}."): v for k, v in tensors.items()}
    stem = "pytorch_model" if part.name == "text_encoder" else "diffusion_pytorch_model"
    torch.save(tensors, part / f"{stem}.bin")


def as_sharded_pickles(part: Path, tensors: dict[str, Tensor]) -> None:
    stem = "pytorch_model" if part.name == "text_encoder" else "diffusion_pytorch_model"
    names = sorted(tensors)
    halves = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    where: dict[str, str] = {}
    for number, chosen in halves.items():
        file = f"{stem}-0000{number}-of-00002.bin"
        torch.save({name: tensors[name] for name in chosen}, part / file)
        where |= dict.fromkeys(chosen, file)
    (part / f"{stem}.bin.index.json").write_text(json.dumps({"weight_map": where}))


_PADDLE_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.layers",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


def as_paddle(part: Path, tensors: dict[str, Tensor]) -> None:
    """Write as ppdiffusers does: numpy arrays in a pickle, matrices transposed."""
    arrays: dict[str, Any] = {}
    for name, tensor in tensors.items():
        matrix = tensor.ndim == 2 and "_embedding.weight" not in name
        if part.name == "text_encoder":
            for ours, theirs in _PADDLE_CLIP.items():
                name = name.replace(ours, theirs)
        # Paddle 2.1 and later write for a parameter its name in the program and the array.
        array = np.ascontiguousarray((tensor.T if matrix else tensor).numpy())
        arrays[name] = array if part.name == "vae" else (f"param_{len(arrays)}", array)
    saved = {**arrays, "StructuredToParameterName@@": dict.fromkeys(arrays, "linear_0.w_0")}
    with (part / "model_state.pdparams").open("wb") as file:
        pickle.dump(saved, file, protocol=2 if part.name == "vae" else 4)


@pytest.mark.parametrize("write", [as_pickles, as_sharded_pickles, as_paddle])
def test_folder_in_another_format_is_added_as_safetensors(
    write: Callable[[Path, dict[str, Tensor]], None], folder: Path, tiny: Path, store: ModelStore
) -> None:
    rewritten(folder, write)
    added = install(str(folder), store, name="mine")
    assert added.kind == "model"
    assert same_weights(added.path, tiny)
    kept = {".safetensors", ".json", ".txt"}
    assert {path.suffix for path in added.path.rglob("*") if path.is_file()} == kept
    load_model(str(added.path), CPU)


def test_path_of_the_store_may_be_relative(
    folder: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    added = install(str(folder), ModelStore(Path("home")), name="mine")
    assert added.path == Path("home/models/mine")
    assert same_weights(added.path, tiny)


def test_paddle_text_encoder_without_a_known_configuration_is_added(
    folder: Path, store: ModelStore
) -> None:
    rewritten(folder, as_paddle)
    (folder / "text_encoder/config.json").unlink()
    (folder / "text_encoder/model_config.json").write_text('{"text_heads": 1}')
    added = install(str(folder), store)
    config = json.loads((added.path / "text_encoder/config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    assert config["hidden_act"] == "quick_gelu"


def test_folder_of_shards_loads_without_conversion(folder: Path, tiny: Path) -> None:
    tensors = weights(folder, "unet")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    names = sorted(tensors)
    where: dict[str, str] = {}
    for number, chosen in enumerate((names[::2], names[1::2]), start=1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in chosen}, folder / "unet" / file)
        where |= dict.fromkeys(chosen, file)
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    loaded = load_model(str(folder), CPU).unet.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    doubled = folder / "unet/diffusion_pytorch_model-00002-of-00002.safetensors"
    save_file({name: tensors[name] for name in names}, doubled)
    with pytest.raises(CheckpointError, match="another shard holds too"):
        load_model(str(folder), CPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fp16_variant_alone_loads_and_is_added(
    dtype: torch.dtype, folder: Path, store: ModelStore
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in weights(folder, "unet").items()}
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    save_file(tensors, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    for path in (folder, install(str(folder), store).path):
        for asked in (torch.float32, dtype):
            unet = load_component(
                path / "unet", lambda config: UNet(UNetConfig.from_dict(config)), asked, CPU
            )
            found = unet.state_dict()
            assert all(torch.equal(found[n], t.to(asked)) for n, t in tensors.items())


def test_command_adds_a_model_and_refuses_a_second_of_its_name(
    folder: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "add", str(folder), "--name", "mine"]) == 0
    assert str(store.find("model", "mine")) in capsys.readouterr().out.replace("\n", "")
    manifest = store.read_manifest("model", "mine")
    assert manifest["title"] == "StableDiffusionPipeline"
    assert "source_sha256" not in manifest
    files = {p for p in store.find("model", "mine").rglob("*") if p.is_file()}
    files.remove(store.manifest("model", "mine"))
    assert manifest["sha256"] == {
        str(p.relative_to(store.find("model", "mine"))): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
    }
    assert main(["models", "add", str(folder), "--name", "mine"]) == 1
    assert "there is a model 'mine' already" in capsys.readouterr().err
    assert main(["models", "add", str(folder), "--name", "../mine"]) == 1
    assert "is no name" in capsys.readouterr().err
    assert main(["models", "add", str(folder), "--kind", "lora"]) == 1
    assert "is a model by its keys, not a lora" in capsys.readouterr().err


def test_model_that_would_not_load_is_not_added(
    folder: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = weights(folder, "unet")
    del tensors["conv_out.bias"]
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, folder / "unet/diffusion_pytorch_model.safetensors")
    assert main(["models", "add", str(folder)]) == 1
    errors = capsys.readouterr().err
    assert "unet: missing: conv_out.bias" in errors
    assert "unet: unexpected: extra" in errors
    assert list(store.root.iterdir()) == []


def test_extra_networks_are_compared_with_our_networks(
    folder: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = weights(folder, "vae")
    del tensors["encoder.conv_in.bias"]
    save_file(tensors, folder / "vae/diffusion_pytorch_model.safetensors")
    pair = {f"lora_unet_mid.lora_{way}.weight": torch.randn(2, 2) for way in ("up", "down")}
    save_file(pair | {"lora_unet_mid.oft_blocks": torch.ones(2)}, folder / "style.safetensors")
    refused = {
        "vae": "vae: missing: encoder.conv_in.bias",
        "style.safetensors": "OFT is not supported: lora_unet_mid.oft_blocks",
    }
    for source, reason in refused.items():
        assert main(["models", "add", str(folder / source)]) == 1
        assert reason in capsys.readouterr().err
    assert list(store.root.iterdir()) == []


def test_added_network_is_checked_by_name(
    folder: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    install(str(folder / "vae"), store, name="fine")
    assert main(["models", "check", "fine"]) == 0
    assert capsys.readouterr().out.startswith("fine: a first stage (AutoencoderKL)\n")


def original_vae(folder: Path) -> dict[str, Tensor]:
    from tests.models.autoencoders.compvis import original_weights

    return {k: v.contiguous() for k, v in original_weights(weights(folder, "vae")).items()}


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_vae_file_replaces_another_and_takes_its_scaling_factor(
    prefix: str, tmp_path: Path, store: ModelStore
) -> None:
    """As `vae-ft-mse-840000-ema-pruned.safetensors`, or .ckpt, without a scaling factor."""
    model = write_tiny_sdxl(tmp_path / "sdxl")
    config = json.loads((model / "vae/config.json").read_text())
    config |= {"scaling_factor": 0.13025, "force_upcast": True}
    (model / "vae/config.json").write_text(json.dumps(config))
    expected = weights(model, "vae")
    state = {f"{prefix}{name}": tensor for name, tensor in original_vae(model).items()}
    save_file(state, tmp_path / "vae.safetensors")
    torch.save(
        {"state_dict": {**state, f"{prefix}loss.logvar": torch.zeros(())}}, tmp_path / "vae.ckpt"
    )
    added = install(str(tmp_path / "vae.ckpt"), store)
    assert (added.kind, added.path) == ("vae", store.find("vae", "vae"))
    digest = hashlib.sha256((tmp_path / "vae.ckpt").read_bytes()).hexdigest()
    assert store.read_manifest("vae", "vae")["source_sha256"] == digest
    like = load_model(str(model), CPU, torch.float16).autoencoder.config
    for folder in (
        added.path,
        resolve_network(str(tmp_path / "vae.safetensors"), "vae", fetch_component),
    ):
        assert "scaling_factor" not in json.loads((folder / "config.json").read_text())
        stage = load_compatible(folder, like, torch.float16, CPU)
        assert stage.config.scaling_factor == 0.13025
        assert stage.dtype == torch.float32
        found = stage.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_lora_is_added_unchanged_from_any_format(tmp_path: Path, store: ModelStore) -> None:
    pair = {
        "lora_unet_mid.lora_down.weight": torch.randn(2, 4),
        "lora_unet_mid.lora_up.weight": torch.randn(4, 2),
        "lora_unet_mid.alpha": torch.tensor(1.0),
    }
    save_file(pair, tmp_path / "style v1.safetensors", metadata={"ss_network_dim": "2"})
    torch.save(pair, tmp_path / "style.pt")
    first = install(str(tmp_path / "style v1.safetensors"), store)
    second = install(str(tmp_path / "style.pt"), store, kind="lora")
    assert store.names("lora") == ["style", "style-v1"]
    assert first.path.read_bytes() == (tmp_path / "style v1.safetensors").read_bytes()
    assert all(torch.equal(load_file(second.path)[n], t) for n, t in pair.items())
    assert store.read_manifest("lora", "style")["sha256"].keys() == {"style.safetensors"}


def test_textual_inversion_embeddings_are_added_in_their_four_forms(
    tmp_path: Path, store: ModelStore
) -> None:
    vectors, large = torch.randn(3, 768), torch.randn(3, 1280)
    torch.save(
        {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": torch.nn.Parameter(vectors)},
            "name": "word",
            "step": 500,
        },
        tmp_path / "webui.pt",
    )
    torch.save({"<word>": vectors[0]}, tmp_path / "diffusers.bin")
    save_file({"emb_params": vectors}, tmp_path / "params.safetensors")
    save_file({"clip_l": vectors, "clip_g": large}, tmp_path / "both.safetensors")
    expected = {
        "webui.pt": {"emb_params": vectors},
        "diffusers.bin": {"<word>": vectors[0]},
        "params.safetensors": {"emb_params": vectors},
        "both.safetensors": {"clip_l": vectors, "clip_g": large},
    }
    for file, tensors in expected.items():
        added = install(str(tmp_path / file), store)
        assert added.kind == "embedding"
        found = load_file(added.path)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert store.names("embedding") == ["both", "diffusers", "params", "webui"]
