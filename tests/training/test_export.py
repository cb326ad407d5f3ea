"""Export to the published layout: it loads strictly, and diffusers generates the same images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.conditioners.clip import ClipConditioner, TextStage
from models.denoising.sampling_params import SamplingParams
from models.executors.eager import eager_executors
from models.loading.loader import load_model
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.samplers.noise_schedule import NoiseSchedule
from models.text.tokenizer import Tokenizer
from training import vocabulary
from training.card import StageRecord, card
from training.diffusion_stage import SCHEDULER
from training.export import export
from training.presets import MINIATURE

SIDE = MINIATURE.image_size


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    """A miniature with random weights that half precision represents exactly."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary.save(vocabulary.train(["red heart", "pizza"] * 4, MINIATURE.vocab_size), folder)
    encoder, unet = TextEncoder(MINIATURE.text_encoder), UNet(MINIATURE.unet)
    autoencoder = AutoencoderKL(replace(MINIATURE.autoencoder, scaling_factor=0.5))
    for network in (encoder, unet, autoencoder):
        network.half().float().eval()
    return LatentDiffusion(
        conditioner=ClipConditioner(
            (TextStage(Tokenizer.from_folder(folder), encoder),), torch.device("cpu")
        ),
        unet=unet,
        autoencoder=autoencoder,
        executors=eager_executors(unet, autoencoder),
        noise_schedule=NoiseSchedule.from_config(SCHEDULER),
        device=torch.device("cpu"),
        dtype=torch.float32,
        folder=folder,
    )


@pytest.fixture(scope="module")
def exported(model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(model, model.folder, folder)
    return folder


def latents(model: LatentDiffusion) -> torch.Tensor:
    params = SamplingParams("red heart", width=SIDE, height=SIDE, steps=4, sampler="ddim", seed=3)
    *_, batch = model.generate([params])
    return torch.stack([state.x for state in batch])


def test_exported_model_generates_the_same_latents(model: LatentDiffusion, exported: Path) -> None:
    loaded = load_model(str(exported), torch.device("cpu"), torch.float32)
    assert loaded.autoencoder.config == model.autoencoder.config
    torch.testing.assert_close(latents(loaded), latents(model))


def test_diffusers_generates_the_same_image(model: LatentDiffusion, exported: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(exported, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        "red heart",
        num_inference_steps=4,
        guidance_scale=7.5,
        height=SIDE,
        width=SIDE,
        latents=noise,
        output_type="np",
    ).images
    ours = model.decode(latents(model)).numpy() / 255
    assert np.abs(ours - theirs).max() <= 1.5 / 255


def test_weights_are_stored_in_half_precision(exported: Path) -> None:
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    for weights in exported.glob("*/*.safetensors"):
        dtypes = {tensor.dtype for tensor in load_file(weights).values()}
        assert dtypes == {torch.float16}, weights


def test_card_contains_the_figures(model: LatentDiffusion, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": s, "time": 0, "l1": 0.5}) + "\n" for s in (20, 40)))
    first = StageRecord.read(log, batch=16)
    assert first == StageRecord(steps=40, batch=16, losses={"l1": 0.5})
    seen = {"autoencoder": first.seen, "enlarged decoder": 320, "new stage": 4800}
    text = card(model, seen, images=1234, measured={"autoencoder": "error 0.5000"})
    for figure in ("1,234", "640", "320", "4,800", "0.5000", f"{SIDE}×{SIDE}", "(4× smaller"):
        assert figure in text
    assert "turbo" not in text


def test_card_describes_the_lora_of_the_model(model: LatentDiffusion, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    factors = {
        "lora_unet_x.lora_down.weight": torch.zeros(2, 600),
        "lora_unet_x.lora_up.weight": torch.zeros(40, 2),
        "lora_unet_x.alpha": torch.ones(()),
    }
    save_file(factors, tmp_path / "loras/turbo.safetensors")
    text = card(replace(model, folder=tmp_path), {}, images=1)
    assert "`loras/turbo.safetensors` (1,280 parameters)" in text
