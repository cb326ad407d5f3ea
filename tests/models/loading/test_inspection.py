"""Inspection of checkpoints by their headers: valid ones, and every kind of problem."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.errors import CheckpointError
from models.checkpoints.meta import meta_device
from models.checkpoints.readers.headers import ITEM_BYTES, read_header
from models.loading.inspection import inspect_checkpoint
from models.networks.controlnet import ControlNet, ControlNetConfig
from tests.models.checkpoints.test_controlnet_files import CANNY, original_name
from tests.models.published.small_models import write_unconditional
from tests.support.published import key_list, published
from tests.support.shared_files import shared_file
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd, write_tiny_sdxl

UNET = "unet/diffusion_pytorch_model.safetensors"


def write_header(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write a safetensors file with these tensors in its header; their bytes are a sparse hole."""
    entries, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = ITEM_BYTES[dtype]
        for side in shape:
            size *= side
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)


def changed(path: Path, change: Callable[[dict[str, tuple[str, tuple[int, ...]]]], Any]) -> None:
    """Write the same file with a changed header, and no weights."""
    tensors = {key: (entry.dtype, entry.shape) for key, entry in read_header(path).entries.items()}
    change(tensors)
    write_header(path, tensors)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_sd(tmp_path / "tiny")


def test_valid_folder_is_described(tiny: Path) -> None:
    report = inspect_checkpoint(str(tiny))
    assert report.valid
    assert (report.pipeline, report.side, report.prediction) == (
        "StableDiffusionPipeline", 32, "epsilon",
    )  # fmt: skip
    assert report.tasks == ("txt2img", "img2img", "inpaint", "outpaint")
    assert [part.name for part in report.components] == ["text_encoder", "vae", "unet"]
    assert {part.precisions for part in report.components} == {("fp32",)}
    assert report.weights["fp32"] == 4 * sum(part.parameters for part in report.components)
    assert report.weights["fp16"] == report.weights["fp32"] / 2


def test_no_weight_is_read(tmp_path: Path) -> None:
    folder = write_tiny_sdxl(tmp_path / "xl")
    before = inspect_checkpoint(str(folder))
    for path in folder.rglob("*.safetensors"):
        changed(path, lambda tensors: None)  # now without a single weight
    assert inspect_checkpoint(str(folder)) == before
    assert [part.name for part in before.components] == [
        "text_encoder", "text_encoder_2", "vae", "unet",
    ]  # fmt: skip


def test_every_problem_of_a_key_is_named(tiny: Path) -> None:
    def damage(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        del tensors["conv_in.weight"], tensors["conv_out.bias"]
        tensors["stranger"] = ("F32", (1,))
        tensors["conv_out.weight"] = ("F32", (4, 32, 1, 1))

    changed(tiny / UNET, damage)
    report = inspect_checkpoint(str(tiny))
    assert not report.valid
    [unet] = [part for part in report.components if part.name == "unet"]
    assert unet.problems == (
        "unet: missing: conv_in.weight",
        "unet: missing: conv_out.bias",
        "unet: unexpected: stranger",
        "unet: misshapen: conv_out.weight is (4, 32, 1, 1), expected (4, 32, 3, 3)",
    )
    assert not any(part.problems for part in report.components if part.name != "unet")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (UNET, "unet has no weights"),
        ("vae/config.json", "vae/config.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler_config.json is missing"),
        ("tokenizer/vocab.json", "vocab.json"),
    ],
)
def test_missing_file_is_named(tiny: Path, missing: str, message: str) -> None:
    (tiny / missing).unlink()
    report = inspect_checkpoint(str(tiny))
    problems = [*report.problems, *(p for part in report.components for p in part.problems)]
    assert not report.valid
    assert [problem for problem in problems if message in problem], problems


def test_all_problems_are_reported_at_once(tiny: Path) -> None:
    (tiny / UNET).write_bytes((tiny / UNET).read_bytes()[:-1])
    shutil.rmtree(tiny / "vae")
    config = json.loads((tiny / "text_encoder/config.json").read_text())
    (tiny / "text_encoder/config.json").write_text(json.dumps(config | {"hidden_act": "tanh"}))
    problems = {
        part.name: "".join(part.problems) for part in inspect_checkpoint(str(tiny)).components
    }
    assert "hidden_act='tanh'" in problems["text_encoder"]
    assert "config.json is missing" in problems["vae"]
    assert "its tensors end" in problems["unet"]


def test_model_without_a_first_stage_is_valid_with_a_note(tiny: Path) -> None:
    """As a file of it is: the models config names another's."""
    shutil.rmtree(tiny / "vae")
    index = json.loads((tiny / "model_index.json").read_text()) | {"vae": [None, None]}
    (tiny / "model_index.json").write_text(json.dumps(index))
    report = inspect_checkpoint(str(tiny))
    assert report.all_problems == ()
    [note] = report.notes
    assert "it holds no first stage: to serve it, name another model's as `vae`" in note
    assert [part.name for part in report.components] == ["text_encoder", "unet"]
    assert report.prediction == "epsilon"
    (tiny / "scheduler/scheduler_config.json").unlink()
    [problem] = inspect_checkpoint(str(tiny)).all_problems
    assert "scheduler_config.json is missing" in problem


def test_components_that_the_index_does_not_name_are_compared(tmp_path: Path) -> None:
    folder = write_unconditional(tmp_path / "model")  # its index names none
    report = inspect_checkpoint(str(folder))
    assert report.valid
    assert [part.name for part in report.components] == ["vqvae", "unet"]
    changed(folder / UNET, lambda tensors: tensors.pop("conv_in.bias"))
    assert inspect_checkpoint(str(folder)).all_problems == ("unet: missing: conv_in.bias",)


def test_unknown_pipeline_is_a_problem(tiny: Path) -> None:
    (tiny / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    report = inspect_checkpoint(str(tiny))
    assert not report.valid
    assert "FluxPipeline" in report.problems[0]


def test_file_that_is_no_model_is_reported(tmp_path: Path) -> None:
    lora = tmp_path / "style.safetensors"
    name = "lora_unet_mid_block_attentions_0_proj_in"
    write_header(
        lora,
        {f"{name}.lora_down.weight": ("F16", (4, 8)), f"{name}.lora_up.weight": ("F16", (8, 4))},
    )
    assert inspect_checkpoint(str(lora)).lines() == ["a LoRA", "valid"]
    write_header(lora, {f"{name}.oft_blocks": ("F16", (4, 8))})
    assert inspect_checkpoint(str(lora)).all_problems == (
        f"OFT is not supported: {name}.oft_blocks",
    )
    embedding = tmp_path / "token.safetensors"
    write_header(embedding, {"emb_params": ("F16", (2, 768))})
    assert inspect_checkpoint(str(embedding)).lines() == ["a textual inversion embedding", "valid"]
    (tmp_path / "model.pdparams").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="models add"):
        inspect_checkpoint(str(tmp_path / "model.pdparams"))
    with pytest.raises(CheckpointError, match=r"model_index\.json is missing"):
        inspect_checkpoint(str(tmp_path))
    with pytest.raises(CheckpointError, match="nor the name of an added one"):
        inspect_checkpoint("unknown")


def test_extra_network_is_described(tiny: Path, tmp_path: Path) -> None:
    vae = inspect_checkpoint(str(tiny / "vae"))
    assert (vae.title, vae.pipeline) == ("a first stage", "AutoencoderKL")
    [part] = vae.components
    assert vae.valid
    assert vae.weights == {"fp32": 4 * part.parameters, "fp16": 2 * part.parameters}
    net = inspect_checkpoint(str(write_tiny_controlnet(tmp_path / "edges", tiny)))
    assert net.valid
    assert net.lines()[0] == "a ControlNet (ControlNetModel)"
    file = tiny / "vae/diffusion_pytorch_model.safetensors"
    changed(file, lambda tensors: tensors.pop("encoder.conv_in.bias"))
    assert inspect_checkpoint(str(tiny / "vae")).all_problems == (
        "vae: missing: encoder.conv_in.bias",
    )
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/config.json").write_text('{"_class_name": "T2IAdapter"}')
    with pytest.raises(CheckpointError, match=r"model_index\.json is missing"):
        inspect_checkpoint(str(tmp_path / "strange"))


def test_controlnet_in_one_file_is_described(tmp_path: Path) -> None:
    """By the published keys of its UNet, and a ControlNet's own."""
    config = ControlNetConfig.from_dict(published(CANNY, "config.json"))
    with meta_device():
        ours = {n: tuple(t.shape) for n, t in ControlNet(config).state_dict().items()}
    file = tmp_path / "control_v11p_sd15_canny.safetensors"
    write_header(file, {original_name(name): ("F16", shape) for name, shape in ours.items()})
    report = inspect_checkpoint(str(file))
    assert report.valid, report
    assert report.weights["fp16"] == 2 * 361_279_120
    changed(file, lambda tensors: tensors.pop("control_model.middle_block_out.0.bias"))
    assert inspect_checkpoint(str(file)).all_problems == (
        "controlnet: missing: controlnet_mid_block.bias",
    )  # fmt: skip


# Parameters of the published files. SDXL's first stage counts in fp32.
PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (
        "Stable Diffusion 1.x", 512,
        {
            "text_encoder": 123_060_480, "vae": 83_653_863, "unet": 859_520_964,
            "safety_checker": 303_981_588,
        },
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": (
        "SDXL base", 1024,
        {
            "text_encoder": 123_060_480, "text_encoder_2": 694_659_840,
            "vae": 83_653_863, "unet": 2_567_463_684,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_are_valid_and_have_their_sizes(name: str, tmp_path: Path) -> None:
    title, side, parameters = PUBLISHED[name]
    checkpoint = name.replace("/", "__")
    folder = tmp_path / "published"
    shutil.copytree(shared_file(f"facts/checkpoints/configs/{checkpoint}"), folder)
    vocabulary = shared_file("data/clip_bpe")
    for tokenizer in folder.glob("tokenizer*"):
        for file in ("vocab.json", "merges.txt"):
            shutil.copyfile(vocabulary / file, tokenizer / file)
    for part in parameters:
        stem = "diffusion_pytorch_model" if part in ("vae", "unet") else "model"
        shapes = key_list(f"{checkpoint}.{part}")
        tensors = {key: ("F16", shape) for key, shape in shapes.items()}
        write_header(folder / part / f"{stem}.safetensors", tensors)
    report = inspect_checkpoint(str(folder))
    assert report.valid, report
    assert (report.title, report.side, report.prediction) == (title, side, "epsilon")
    assert {part.name: part.parameters for part in report.components} == parameters
    upcast = parameters["vae"] if side == 1024 else 0
    assert report.weights == {
        "fp32": 4 * sum(parameters.values()),
        "fp16": 2 * (sum(parameters.values()) + upcast),
    }
