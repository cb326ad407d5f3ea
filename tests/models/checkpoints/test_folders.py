"""Model folders as people have them: pickles, shards, half precision, Paddle's rendering."""

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
from models.checkpoints.convert.install import add
from models.checkpoints.convert.model_store import ModelsHome
from models.checkpoints.hub import fetch_part
from models.loading.loader import load_model
from models.loading.replacements import network_of
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
    """A copy, to be written in another format."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelsHome:
    """Where things are added, by the command line too."""
    home = ModelsHome(tmp_path / "home")
    monkeypatch.setenv("DARKROOM_MODELS_HOME", str(home.root))
    return home


def weights(folder: Path, part: str) -> dict[str, Tensor]:
    return load_file(folder / part / f"{WEIGHTS[part]}.safetensors")


def rewritten(folder: Path, write: Callable[[Path, dict[str, Tensor]], None]) -> None:
    """The same weights, by `write(folder of the component, tensors)` in place of safetensors."""
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
    """As before safetensors, with the attention's old names in the autoencoder."""
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
    """As ppdiffusers writes it: numpy arrays in a pickle, matrices the other way round."""
    arrays: dict[str, Any] = {}
    for name, tensor in tensors.items():
        matrix = tensor.ndim == 2 and "_embedding.weight" not in name
        if part.name == "text_encoder":
            for ours, theirs in _PADDLE_CLIP.items():
                name = name.replace(ours, theirs)
        # What Paddle 2.1 and later write for a parameter: its name in the program, and the array.
        array = np.ascontiguousarray((tensor.T if matrix else tensor).numpy())
        arrays[name] = array if part.name == "vae" else (f"param_{len(arrays)}", array)
    saved = {**arrays, "StructuredToParameterName@@": dict.fromkeys(arrays, "linear_0.w_0")}
    with (part / "model_state.pdparams").open("wb") as file:
        pickle.dump(saved, file, protocol=2 if part.name == "vae" else 4)


@pytest.mark.parametrize("write", [as_pickles, as_sharded_pickles, as_paddle])
def test_a_folder_in_another_format_is_added_as_safetensors(
    write: Callable[[Path, dict[str, Tensor]], None], folder: Path, tiny: Path, home: ModelsHome
) -> None:
    rewritten(folder, write)
    added = add(str(folder), home, name="mine")
    assert added.kind == "model"
    assert same_weights(added.place, tiny)
    kept = {".safetensors", ".json", ".txt"}
    assert {path.suffix for path in added.place.rglob("*") if path.is_file()} == kept
    load_model(str(added.place), CPU)


def test_the_models_home_may_be_told_from_here(
    folder: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    added = add(str(folder), ModelsHome(Path("home")), name="mine")
    assert added.place == Path("home/models/mine")
    assert same_weights(added.place, tiny)


def test_paddles_text_encoder_without_a_configuration_we_know(
    folder: Path, home: ModelsHome
) -> None:
    rewritten(folder, as_paddle)
    (folder / "text_encoder/config.json").unlink()
    (folder / "text_encoder/model_config.json").write_text('{"text_heads": 1}')
    added = add(str(folder), home)
    config = json.loads((added.place / "text_encoder/config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    assert config["hidden_act"] == "quick_gelu"


def test_a_folder_of_shards_loads_as_it_is(folder: Path, tiny: Path) -> None:
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
def test_a_rendering_in_half_precision_alone_loads_and_is_added(
    dtype: torch.dtype, folder: Path, home: ModelsHome
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in weights(folder, "unet").items()}
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    save_file(tensors, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    for place in (folder, add(str(folder), home).place):
        for asked in (torch.float32, dtype):
            unet = load_component(
                place / "unet", lambda config: UNet(UNetConfig.from_dict(config)), asked, CPU
            )
            found = unet.state_dict()
            assert all(torch.equal(found[n], t.to(asked)) for n, t in tensors.items())


def test_the_command_adds_lists_its_name_and_refuses_a_second(
    folder: Path, home: ModelsHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "add", str(folder), "--name", "mine"]) == 0
    assert str(home.find("model", "mine")) in capsys.readouterr().out.replace("\n", "")
    manifest = home.describe("model", "mine")
    assert manifest["title"] == "StableDiffusionPipeline"
    files = {p for p in home.find("model", "mine").rglob("*") if p.is_file()}
    files.remove(home.manifest("model", "mine"))
    assert manifest["sha256"] == {
        str(p.relative_to(home.find("model", "mine"))): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
    }
    assert main(["models", "add", str(folder), "--name", "mine"]) == 1
    assert "there is a model 'mine' already" in capsys.readouterr().err
    assert main(["models", "add", str(folder), "--name", "../mine"]) == 1
    assert "is no name" in capsys.readouterr().err
    assert main(["models", "add", str(folder), "--kind", "lora"]) == 1
    assert "is a model by its keys, not a lora" in capsys.readouterr().err


def test_a_model_that_would_not_load_is_not_added(
    folder: Path, home: ModelsHome, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = weights(folder, "unet")
    del tensors["conv_out.bias"]
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, folder / "unet/diffusion_pytorch_model.safetensors")
    assert main(["models", "add", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "unet: missing: conv_out.bias" in said
    assert "unet: unexpected: extra" in said
    assert list(home.root.iterdir()) == []


def test_what_goes_with_models_is_held_against_our_networks_too(
    folder: Path, home: ModelsHome, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = weights(folder, "vae")
    del tensors["encoder.conv_in.bias"]
    save_file(tensors, folder / "vae/diffusion_pytorch_model.safetensors")
    pair = {f"lora_unet_mid.lora_{way}.weight": torch.randn(2, 2) for way in ("up", "down")}
    save_file(pair | {"lora_unet_mid.dora_scale": torch.ones(2)}, folder / "style.safetensors")
    refused = {
        "vae": "vae: missing: encoder.conv_in.bias",
        "style.safetensors": "DoRA is not supported: lora_unet_mid.dora_scale",
    }
    for source, reason in refused.items():
        assert main(["models", "add", str(folder / source)]) == 1
        assert reason in capsys.readouterr().err
    assert list(home.root.iterdir()) == []


def test_what_was_added_is_checked_by_its_name(
    folder: Path, home: ModelsHome, capsys: pytest.CaptureFixture[str]
) -> None:
    add(str(folder / "vae"), home, name="fine")
    assert main(["models", "check", "fine"]) == 0
    assert capsys.readouterr().out.startswith("fine: a first stage (AutoencoderKL)\n")


def original_vae(folder: Path) -> dict[str, Tensor]:
    from tests.models.autoencoders.compvis import original_weights

    return {k: v.contiguous() for k, v in original_weights(weights(folder, "vae")).items()}


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_alone_replaces_another_and_is_scaled_like_it(
    prefix: str, tmp_path: Path, home: ModelsHome
) -> None:
    """As `vae-ft-mse-840000-ema-pruned.safetensors`, or .ckpt: it does not say how it is scaled."""
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
    added = add(str(tmp_path / "vae.ckpt"), home)
    assert (added.kind, added.place) == ("vae", home.find("vae", "vae"))
    like = load_model(str(model), CPU, torch.float16).autoencoder
    for folder in (added.place, network_of(str(tmp_path / "vae.safetensors"), "vae", fetch_part)):
        assert "scaling_factor" not in json.loads((folder / "config.json").read_text())
        stage = load_compatible(folder, like, torch.float16, CPU)
        assert stage.config.scaling_factor == 0.13025
        assert stage.dtype == torch.float32
        found = stage.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_lora_is_added_as_it_is_from_any_format(tmp_path: Path, home: ModelsHome) -> None:
    pair = {
        "lora_unet_mid.lora_down.weight": torch.randn(2, 4),
        "lora_unet_mid.lora_up.weight": torch.randn(4, 2),
        "lora_unet_mid.alpha": torch.tensor(1.0),
    }
    save_file(pair, tmp_path / "style v1.safetensors", metadata={"ss_network_dim": "2"})
    torch.save(pair, tmp_path / "style.pt")
    first = add(str(tmp_path / "style v1.safetensors"), home)
    second = add(str(tmp_path / "style.pt"), home, kind="lora")
    assert home.names("lora") == ["style", "style-v1"]
    assert first.place.read_bytes() == (tmp_path / "style v1.safetensors").read_bytes()
    assert all(torch.equal(load_file(second.place)[n], t) for n, t in pair.items())
    assert home.describe("lora", "style")["sha256"].keys() == {"style.safetensors"}


def test_learned_words_in_their_four_forms(tmp_path: Path, home: ModelsHome) -> None:
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
        added = add(str(tmp_path / file), home)
        assert added.kind == "embedding"
        found = load_file(added.place)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert home.names("embedding") == ["both", "diffusers", "params", "webui"]
