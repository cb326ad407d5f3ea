"""The LoRA for four steps: its start, its loss, and its file in diffusers and in the engine."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from safetensors.torch import load_file

from models.loading.loader import load_model
from models.lora.merging import layers_of, with_loras
from models.lora.reading import read_lora
from models.samplers.methods.consistency import SIGMA_DATA
from tests.training.test_continued import art, published
from training.checkpointing import images_seen
from training.continued import continued_stage
from training.data import EmojiImages
from training.diffusion_stage import GUIDANCE_SCALE, SCHEDULER
from training.turbo.consistency_stage import SOLVER_STEPS, ConsistencyStage
from training.turbo.distillation import STRENGTH, TURBO_FILE, distil

__all__ = ["art", "published"]  # fixtures


@pytest.fixture
def stage(published: Path, art: EmojiImages) -> ConsistencyStage:
    return ConsistencyStage(continued_stage(published, art, batch_size=4), rank=2)


def random_inputs(stage: ConsistencyStage) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 4, 4, 4, generator=generator)
    ids = stage.trained.examples.captions.ids[:4]
    return x, ids, stage.timesteps[torch.tensor([0, 9, 30, 49])]


@torch.no_grad()
def awaken(stage: ConsistencyStage) -> None:
    """Give a network random weights where training begins with zeros."""
    torch.manual_seed(2)
    for parameter in [*stage.trained.unet.parameters(), *stage.network.parameters()]:
        if not parameter.any():
            parameter.normal_(std=0.1)


def test_it_begins_as_the_network_without_a_lora(stage: ConsistencyStage) -> None:
    x, ids, timesteps = random_inputs(stage)
    context, _ = stage.contexts(ids)
    with torch.no_grad():
        expected = stage.velocity(stage.trained.unet, x, timesteps, context)
        assert torch.equal(stage.velocity(stage.network, x, timesteps, context), expected)


def test_only_layers_of_blocks_change_and_only_the_lora_is_trained(stage: ConsistencyStage) -> None:
    awaken(stage)
    before = {name: p.clone() for name, p in stage.trained.unet.named_parameters()}
    start = [change.up.detach().clone() for change in stage.student.changes.values()]
    for step in range(3):
        stage.step(step + 50, 100)
    after = dict(stage.trained.unet.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    changes = stage.student.changes
    assert {path.split(".")[0] for path in changes} == {"down_blocks", "mid_block", "up_blocks"}
    assert all(
        not torch.equal(up, change.up) for up, change in zip(start, changes.values(), strict=True)
    )
    trained = {p for p in stage.network.parameters() if p.requires_grad}
    assert trained == set(stage.ema.parameters)


@pytest.mark.parametrize("place", [0, 1, 25, 49])
def test_teacher_takes_the_step_of_diffusers_ddim(stage: ConsistencyStage, place: int) -> None:
    awaken(stage)
    x, ids, _ = random_inputs(stage)
    timestep = stage.timesteps[place].repeat(4)
    below = stage.timesteps[max(place - 1, 0)].repeat(4) * (place > 0)
    context, empty = stage.contexts(ids)
    scheduler = DDIMScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(SOLVER_STEPS)
    with torch.no_grad():
        ours = stage.teacher_step(x, timestep, below, context, empty)
        guided, free = (
            stage.velocity(stage.trained.unet, x, timestep, c) for c in (context, empty)
        )
    v = free + GUIDANCE_SCALE * (guided - free)
    expected = scheduler.step(v, int(timestep[0]), x).prev_sample
    # The teacher computes both rows in one batch, in bfloat16.
    torch.testing.assert_close(ours, expected, atol=0.02, rtol=0.02)


def test_student_predicts_what_diffusers_lcm_scheduler_does(stage: ConsistencyStage) -> None:
    awaken(stage)
    x, ids, timesteps = random_inputs(stage)
    context, _ = stage.contexts(ids)
    scheduler = LCMScheduler.from_config(SCHEDULER)
    with torch.no_grad():
        v = stage.velocity(stage.network, x, timesteps, context)
        ours = stage.consistent(x, timesteps, context)
    for row, timestep in enumerate(timesteps.tolist()):
        alpha = scheduler.alphas_cumprod[timestep]
        x_0 = alpha.sqrt() * x[row] - (1 - alpha).sqrt() * v[row]
        skip, out = scheduler.get_scalings_for_boundary_condition_discrete(timestep)
        torch.testing.assert_close(ours[row], out * x_0 + skip * x[row])
    assert scheduler.config.timestep_scaling == 10
    assert SIGMA_DATA == 0.5


def test_at_timestep_zero_the_prediction_is_the_input(stage: ConsistencyStage) -> None:
    x, ids, timesteps = random_inputs(stage)
    context, _ = stage.contexts(ids)
    with torch.no_grad():
        assert torch.equal(stage.consistent(x, torch.zeros_like(timesteps), context), x)


def test_loss_falls_on_one_batch(stage: ConsistencyStage) -> None:
    awaken(stage)
    torch.manual_seed(3)
    batch = stage.batch()
    stage.batch = lambda: batch  # type: ignore[method-assign]
    state = stage.generator.get_state()
    losses = []
    for step in range(60):
        stage.generator.set_state(state)
        losses.append(stage.step(step + 50, 400)["loss"])
    assert losses[-1] < 0.8 * losses[0]


def test_file_has_a_change_of_every_layer_of_the_blocks(
    published: Path, art: EmojiImages, tmp_path: Path
) -> None:
    distil(published, art, tmp_path / "turbo", steps=3, batch_size=2)
    file = published / TURBO_FILE
    assert images_seen(published)["turbo"] == 6
    tensors = load_file(file)
    assert all(name.startswith("lora_unet_") for name in tensors)
    assert {float(t) for name, t in tensors.items() if name.endswith(".alpha")} == {32.0 * STRENGTH}
    model = load_model(str(published), torch.device("cpu"), torch.float32)
    lora = read_lora(file, layers_of(model))
    stage = ConsistencyStage(continued_stage(published, art, batch_size=2))
    assert {name for _, name in lora.changes} == {
        f"{path}.weight" for path in stage.student.changes
    }


@torch.no_grad()
def test_engine_merges_the_file_to_the_weights_of_training(
    stage: ConsistencyStage, published: Path, tmp_path: Path
) -> None:
    for change in stage.student.changes.values():
        change.up.normal_(std=0.1)
        change.down.copy_(change.down.half())
        change.up.copy_(change.up.half())
    stage.student.save(tmp_path / "turbo.safetensors")
    model = load_model(str(published), torch.device("cpu"), torch.float32)
    lora = read_lora(tmp_path / "turbo.safetensors", layers_of(model))
    merged = dict(with_loras(model, [(lora, 1.0)]).unet.named_parameters())
    for path in stage.student.changes:
        trained = stage.network.get_submodule(path).weight
        assert isinstance(trained, torch.Tensor)
        torch.testing.assert_close(merged[f"{path}.weight"], trained, atol=1e-5, rtol=1e-5)


def test_a_run_resumes(published: Path, art: EmojiImages, tmp_path: Path) -> None:
    distil(published, art, tmp_path / "once", steps=4, batch_size=2)
    once = load_file(published / TURBO_FILE)
    distil(published, art, tmp_path / "twice", steps=4, batch_size=2)
    distil(published, art, tmp_path / "twice", steps=4, batch_size=2)
    again = load_file(published / TURBO_FILE)
    assert all(torch.equal(once[name], again[name]) for name in once)
