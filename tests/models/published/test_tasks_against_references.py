"""Each of the paper's tasks against diffusers' pipeline with the same weights.

Where diffusers has no pipeline, against a loop of its networks as in CompVis' scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from torch import Tensor

from models.checkpoints.meta import meta_device
from models.conditioners.unconditional import ClassConditioner, LayoutConditioner
from models.denoising.sampling_params import Box, SamplingParams
from models.loading.loader import load_model
from models.networks.bert import BertEncoder
from models.pipeline import LatentDiffusion
from tests.models.published import small_models
from tests.support.published import published

CELEBAHQ = "CompVis__ldm-celebahq-256"
SEED, STEPS = 11, 4
CPU = torch.device("cpu")


class Reference:
    """diffusers' parts of a model folder, and the loop that all of the paper's tasks share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
        kind = diffusers.UNet2DConditionModel if self._reads_context else diffusers.UNet2DModel
        self.unet = kind.from_pretrained(folder / "unet")
        self.first_stage = _first_stage(folder / "vqvae")

    @property
    def _reads_context(self) -> bool:
        return "UNet2DConditionModel" in (self.folder / "unet/config.json").read_text()

    @torch.no_grad()
    def latents(
        self,
        size: tuple[int, int],
        context: Tensor | None = None,
        negative: Tensor | None = None,
        guidance: float = 1.0,
        concat: Tensor | None = None,
    ) -> Tensor:
        """Denoise the noise of `SEED` to clean latents (1, C, h, w), by DDIM."""
        channels = self.unet.config.out_channels
        generator = torch.Generator().manual_seed(SEED)
        x = torch.randn(1, channels, *size, generator=generator)
        self.scheduler.set_timesteps(STEPS)
        for t in self.scheduler.timesteps:
            inputs = x if concat is None else torch.cat([x, concat], dim=1)
            eps = self._eps(inputs, t, context)
            if negative is not None:
                negative_eps = self._eps(inputs, t, negative)
                eps = negative_eps + guidance * (eps - negative_eps)
            x = self.scheduler.step(eps, t, x).prev_sample
        return x

    def _eps(self, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        arguments = () if context is None else (context,)
        eps: Tensor = self.unet(x, t, *arguments).sample
        return eps

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """Decode (1, C, h, w) to (H, W, 3) from 0 to 1."""
        z = latents / self.first_stage.config.scaling_factor
        image: Tensor = self.first_stage.decode(z).sample
        return (image / 2 + 0.5).clamp(0, 1)[0].movedim(0, -1)


def _first_stage(folder: Path) -> Any:
    if "AutoencoderKL" in (folder / "config.json").read_text():
        return diffusers.AutoencoderKL.from_pretrained(folder)
    return diffusers.VQModel.from_pretrained(folder)


def generate(model: LatentDiffusion, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return our latents (1, C, h, w) and image (H, W, 3) from 0 to 1."""
    [last] = list(model.generate([params]))[-1]
    decoded = model.postprocess(params, model.decode(last.x[None])[0])
    return last.x[None], decoded.float() / 255


def params(width: int = 32, height: int = 32, **changes: Any) -> SamplingParams:
    usual: dict[str, Any] = {
        "width": width, "height": height, "steps": STEPS, "sampler": "ddim",
        "schedule": "leading", "guidance_scale": 1.0, "seed": SEED,
    }  # fmt: skip
    return SamplingParams(**(usual | changes))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Compare latents to within 1e-4 of their scale."""
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def assert_same_image(ours: Tensor, theirs: Tensor) -> None:
    """Compare to within one level of 8 bits."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1.001 / 255
    assert theirs.std() > 0.01


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LatentDiffusion:
    """Load the model that the function in the parameter writes."""
    write: Callable[[Path], Path] = request.param
    return load_model(str(write(tmp_path)), CPU)


def made_by(write: Callable[..., Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", [write], indirect=True, ids=lambda w: w.__name__)


@pytest.mark.parametrize(
    "model", [small_models.write_unconditional, small_models.write_churches], indirect=True
)
def test_unconditional(model: LatentDiffusion) -> None:
    reference = Reference(model.folder)
    ours, decoded = generate(model, params())
    assert_close(ours, reference.latents((8, 8)))
    pipeline = diffusers.LDMPipeline(
        vqvae=reference.first_stage, unet=reference.unet, scheduler=reference.scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    theirs = pipeline(generator=generator, num_inference_steps=STEPS, output_type="np").images
    assert_same_image(decoded, torch.from_numpy(theirs[0]))


def test_celebahq_by_its_published_files(tmp_path: Path) -> None:
    """Shrunk. The files are older than some keys; diffusers' defaults replace the missing ones."""
    shrunk: dict[str, dict[str, Any]] = {
        "unet": {"block_out_channels": [32, 32, 64, 64], "sample_size": 8, "norm_num_groups": 8},
        "vqvae": {"block_out_channels": [32, 32, 64], "num_vq_embeddings": 64},
    }
    torch.manual_seed(3)
    for part, kind in (("unet", diffusers.UNet2DModel), ("vqvae", diffusers.VQModel)):
        network = kind.from_config(published(CELEBAHQ, f"{part}/config.json") | shrunk[part])
        network.save_pretrained(tmp_path / part)
        config = published(CELEBAHQ, f"{part}/config.json") | shrunk[part]
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(published(CELEBAHQ, file)))
    reference, model = Reference(tmp_path), load_model(str(tmp_path), CPU)
    ours, decoded = generate(model, params())
    theirs = reference.latents((8, 8))
    assert reference.scheduler.timesteps.tolist() == [750, 500, 250, 0]
    assert_close(ours, theirs)
    # Today's class would divide by 0.18215, with which the model was not trained.
    reference.first_stage.register_to_config(scaling_factor=1.0)
    assert_same_image(decoded, reference.decoded(theirs))


@pytest.mark.parametrize("first_stage", [small_models.KL, small_models.VQ], ids=["kl", "vq"])
def test_text_to_image(tmp_path: Path, first_stage: Any) -> None:
    folder = small_models.write_text_to_image(tmp_path, first_stage)
    model, reference = load_model(str(folder), CPU), Reference(folder)
    pipeline = diffusers.LDMTextToImagePipeline(
        vqvae=reference.first_stage,
        bert=LDMBertModel.from_pretrained(folder / "bert"),
        tokenizer=transformers.BertTokenizer.from_pretrained(folder / "tokenizer"),
        unet=reference.unet,
        scheduler=reference.scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "the red cats", 64, 64, num_inference_steps=STEPS, guidance_scale=5.0, output_type="np",
        generator=torch.Generator().manual_seed(SEED),
    ).images  # fmt: skip
    # It assumes a factor of 8 for every first stage; this one's is 4.
    _, decoded = generate(model, params(prompt="the red cats", guidance_scale=5.0))
    assert_same_image(decoded, torch.from_numpy(np.asarray(theirs[0])))


@made_by(small_models.write_class)
def test_a_class_guided_away_from_none(model: LatentDiffusion) -> None:
    assert isinstance(model.conditioner, ClassConditioner)
    assert model.conditioner.classes == small_models.CLASSES
    table = model.conditioner.embedder.embedding.weight
    reference = Reference(model.folder)
    theirs = reference.latents((8, 8), table[None, 2:3], table[None, -1:], guidance=3.0)
    ours, decoded = generate(model, params(class_id=2, guidance_scale=3.0))
    assert_close(ours, theirs)
    assert_same_image(decoded, reference.decoded(theirs))


@made_by(small_models.write_layout)
def test_boxes(model: LatentDiffusion) -> None:
    assert isinstance(model.conditioner, LayoutConditioner)
    side = 20  # of the grid: the root of a vocabulary of 400
    boxes = (Box(7, 0.25, 0.5, 0.5, 0.5), Box(3, 0.0, 0.0, 1.0, 0.3))
    tokens = [7, 10 * side + 5, 19 * side + 14, 3, 0, 6 * side + 19]
    tokens += [399] * 6 + [0, 19 * side + 19]
    assert model.conditioner.tokens(boxes) == tokens
    encoder = LDMBertModel.from_pretrained(model.folder / "bert")
    context = encoder.model(torch.tensor([tokens])).last_hidden_state.detach()
    reference = Reference(model.folder)
    theirs = reference.latents((8, 8), context)
    ours, decoded = generate(model, params(boxes=boxes))
    assert_close(ours, theirs)
    assert_same_image(decoded, reference.decoded(theirs))


def test_published_vocabulary_has_room_for_thirty_objects(tmp_path: Path) -> None:
    encoder = small_models.bert(8192, 92)
    with meta_device():
        conditioner = LayoutConditioner(BertEncoder(encoder), CPU)
    assert (conditioner.max_boxes, conditioner.classes) == (30, 512)
    tokens = conditioner.tokens((Box(511, 1.0, 1.0, 1.0, 1.0),) * 30)
    assert len(tokens) == 92
    assert max(tokens) == 8099  # 89 · 90 + 89: the last place of a grid of 90


@made_by(small_models.write_semantic)
def test_a_map_of_classes(model: LatentDiffusion) -> None:
    labels = torch.arange(32 * 48).reshape(1, 48, 32) // 100 % small_models.CLASSES
    maps = F.one_hot(labels, small_models.CLASSES).permute(0, 3, 1, 2).float()
    for _ in range(2):
        maps = F.interpolate(maps, scale_factor=0.5, mode="bilinear")
    weights = model.concat_conditioning.rescaler.channel_mapper.weight  # type: ignore[union-attr]
    reference = Reference(model.folder)
    theirs = reference.latents((12, 8), concat=F.conv2d(maps, weights))
    ours, decoded = generate(model, params(32, 48, labels=labels))
    assert_close(ours, theirs)
    assert_same_image(decoded, reference.decoded(theirs))


@made_by(small_models.write_inpainting)
def test_inpainting(model: LatentDiffusion) -> None:
    """As in CompVis' scripts/inpaint.py, but a latent is marked if any of its pixels is."""
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 5:20] = 1
    reference = Reference(model.folder)
    masked = 2 * ((1 - mask) * image) - 1
    seen = reference.first_stage.encode(masked[None]).latents.detach()
    hole = 2 * F.max_pool2d(mask[None], 4) - 1
    theirs = reference.latents((8, 8), concat=torch.cat([seen, hole], dim=1))
    whole = reference.decoded(theirs)
    composed = torch.where(mask[0, ..., None] == 1, whole, image.movedim(0, -1))
    ours, decoded = generate(model, params(image=2 * image - 1, mask=mask))
    assert_close(ours, theirs)
    assert_same_image(decoded, composed)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@made_by(small_models.write_super_resolution)
def test_super_resolution(model: LatentDiffusion, eta: float) -> None:
    image = 2 * torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(1)) - 1
    reference = Reference(model.folder)
    pipeline = diffusers.LDMSuperResolutionPipeline(
        vqvae=reference.first_stage, unet=reference.unet, scheduler=reference.scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    # Fresh noise comes from the same generator as the first.
    noise = torch.Generator().manual_seed(SEED)
    step = reference.scheduler.step
    reference.scheduler.step = lambda *arguments, eta: step(*arguments, eta=eta, generator=noise)
    theirs = pipeline(
        image[None], num_inference_steps=STEPS, eta=eta, output_type="np", generator=noise
    ).images
    _, decoded = generate(model, params(48, 32, low_res=image, eta=eta))
    assert_same_image(decoded, torch.from_numpy(theirs[0]))
