"""States of every kind share a step, and each gives the same result in every batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import pytest
import torch

from models.denoising.denoiser import Conditioning, DenoisingState, advance
from models.denoising.noise import ImageNoise
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from models.samplers import SCHEDULES, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from protocol.request.samplers import SAMPLERS

# Batched and single matrix products add in another order; there is no other difference.
ROUNDING = 2e-4


def finish(model: LatentDiffusion, batch: list[DenoisingState]) -> list[torch.Tensor]:
    while running := [t for t in batch if not t.done]:
        model.advance(running)
    return [t.x for t in batch]


def start(model: LatentDiffusion, params: SamplingParams) -> DenoisingState:
    [state] = model.start(params, [params.seed])
    return state


def mixed_params() -> list[SamplingParams]:
    """Return all samplers, schedules, step counts, with and without guidance, all tasks."""
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(3, 32, 32)
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:20, 8:20] = 1
    all_params = [
        SamplingParams(
            "the cat " * (1 + 40 * (i % 3)),
            width=32,
            height=32,
            steps=3 + i % 6,
            sampler=sampler,
            schedule=schedule,
            guidance_scale=(1.0, 3.0, 7.5)[i % 3],
            guidance_rescale=(0.0, 0.7)[i % 2],
            seed=i,
        )
        for i, (sampler, schedule) in enumerate(zip(SAMPLERS, cycle(SCHEDULES), strict=False))
    ]
    varied = SamplingParams(
        "a red cat", width=32, height=32, steps=6, image=image, strength=0.5, seed=50
    )
    repainted = replace(varied, prompt="a cat", mask=mask, strength=0.9, sampler="euler", seed=51)
    return [*all_params, varied, repainted]


@pytest.mark.parametrize("name", ["tiny_sd", "tiny_sdxl"])
def test_states_of_every_kind_share_a_batch(name: str, request: pytest.FixtureRequest) -> None:
    model: LatentDiffusion = request.getfixturevalue(name)
    all_params = mixed_params()
    together = finish(model, [start(model, params) for params in all_params])
    for params, mine in zip(all_params, together, strict=True):
        [alone] = finish(model, [start(model, params)])
        torch.testing.assert_close(mine, alone, atol=ROUNDING, rtol=ROUNDING)


def test_joining_a_running_batch_changes_nothing(tiny_sd: LatentDiffusion) -> None:
    first, second = mixed_params()[4], mixed_params()[5]
    early = start(tiny_sd, first)
    for _ in range(3):
        tiny_sd.advance([early])
    late = start(tiny_sd, second)
    joined = finish(tiny_sd, [early, late])
    apart = [finish(tiny_sd, [start(tiny_sd, params)])[0] for params in (first, second)]
    for mine, alone in zip(joined, apart, strict=True):
        torch.testing.assert_close(mine, alone, atol=ROUNDING, rtol=ROUNDING)


def test_known_region_is_exactly_the_given_one(tiny_sd: LatentDiffusion) -> None:
    params = mixed_params()[-1]
    state = start(tiny_sd, params)
    known = state.known
    assert known is not None
    [x] = finish(tiny_sd, [state])
    outside = (known.mask == 0).expand_as(x)
    assert outside.any()
    assert not outside.all()
    torch.testing.assert_close(x[outside], known.latents[outside], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(x[~outside], known.latents[~outside], atol=1e-2)


def test_guidance_is_an_extrapolation_away_from_the_negative() -> None:
    """A network that returns its context shows the guidance formula itself."""

    def network(
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor | None,
        added: object,
        controls: object,
    ) -> torch.Tensor:
        assert context is not None
        return context.mean(dim=(1, 2))[:, None, None, None].expand_as(x)

    class Table:
        start_signal, start_noise = 0.0, 0.0
        timestep = input_scale = predict_output = torch.ones(1).numpy()
        predict_x = keep_x = noise = known_signal = known_noise = torch.zeros(1).numpy()
        history = torch.tensor([[1.0, 0, 0, 0, 0]]).numpy()

        def __len__(self) -> int:
            return 1

    def state(scale: float, *, guided: bool) -> DenoisingState:
        positive, negative = (Conditioning(torch.full((77, 4), v)) for v in (2.0, 0.5))
        return DenoisingState.start(
            Table(),  # type: ignore[arg-type]
            ImageNoise(0, (4, 2, 2)),
            torch.device("cpu"),
            positive,
            negative=negative if guided else None,
            guidance_scale=scale,
        )

    batch = [
        state(3.0, guided=True),
        state(9.0, guided=False),
        state(1.0, guided=True),
    ]
    assert [t.rows for t in batch] == [2, 1, 2]
    advance(network, batch, torch.float32)
    assert [float(t.x.mean()) for t in batch] == [0.5 + 3 * 1.5, 2.0, 2.0]


def test_seed_determines_the_image(tiny_sd: LatentDiffusion) -> None:
    def image(seed: int) -> torch.Tensor:
        params = SamplingParams("a cat", width=32, height=32, steps=2, seed=seed)
        return finish(tiny_sd, [start(tiny_sd, params)])[0]

    assert torch.equal(image(7), image(7))
    assert not torch.allclose(image(7), image(8), atol=0.1)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**53 - 1])
def test_noise_is_that_of_the_diffusers_pipelines(seed: int) -> None:
    expected = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))[0]
    assert torch.equal(ImageNoise(seed, (4, 8, 8)).sample(torch.device("cpu")), expected)


@pytest.mark.parametrize("name", ["tiny_sd_folder", "tiny_sdxl_folder"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_gives_nearly_the_same(
    name: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    """Latents stay float32 between steps, so only the networks round."""
    folder = str(request.getfixturevalue(name))
    single, half = (load_model(folder, torch.device("cpu"), d) for d in (torch.float32, dtype))
    params = SamplingParams("the red cat", width=16, height=16, steps=2, guidance_scale=3.0)
    [expected], [x] = (finish(model, [start(model, params)]) for model in (single, half))
    assert x.dtype == torch.float32
    error = float((x - expected).abs().max() / expected.abs().max())
    assert 0 < error < (0.02 if dtype is torch.float16 else 0.1)
    decoded = half.decode(x[None])
    assert decoded.dtype == torch.uint8


def interval(start: float, end: float, scale: float = 5.0) -> SamplingParams:
    return SamplingParams(
        "the cat " * 40, width=32, height=32, steps=8, guidance_scale=scale, seed=9,
        guidance_interval=(start, end),
    )  # fmt: skip


def test_guidance_in_the_whole_interval_is_ordinary_guidance(tiny_sd: LatentDiffusion) -> None:
    [whole] = finish(tiny_sd, [start(tiny_sd, interval(0, 1))])
    [usual] = finish(
        tiny_sd, [start(tiny_sd, replace(interval(0, 1), guidance_interval=(0.0, 1.0)))]
    )
    [none] = finish(tiny_sd, [start(tiny_sd, interval(0.5, 0.5))])
    [unguided] = finish(tiny_sd, [start(tiny_sd, interval(0, 1, scale=1.0))])
    assert torch.equal(whole, usual)
    assert not torch.equal(whole, unguided)
    # Not bit for bit: a negative prompt of another length also lengthens the context.
    torch.testing.assert_close(none, unguided, atol=ROUNDING, rtol=ROUNDING)


def test_steps_outside_the_interval_take_one_row(tiny_sd: LatentDiffusion) -> None:
    state = start(tiny_sd, interval(0.25, 0.75))
    rows = []
    while not state.done:
        rows.append(state.rows)
        tiny_sd.advance([state])
    assert rows == [1, 1, 2, 2, 2, 2, 1, 1]


def test_step_without_guidance_has_the_same_bits_in_a_batch(tiny_sd: LatentDiffusion) -> None:
    """Its own negative prompt, though not used in this step, determines the context length."""
    mine = replace(interval(0.5, 1), negative_prompt="the")
    neighbour = replace(interval(0, 1), negative_prompt="a", seed=10)
    [alone] = finish(tiny_sd, [start(tiny_sd, mine)])
    assert torch.equal(finish(tiny_sd, [start(tiny_sd, mine), start(tiny_sd, neighbour)])[0], alone)


def test_guidance_rescale_acts_on_its_own_row_only(
    tiny_sd: LatentDiffusion,
) -> None:
    """One step, bit for bit: alone, in a batch, and with a neighbour that is rescaled."""
    plain = SamplingParams(
        "the cat", width=32, height=32, steps=3, sampler="euler", guidance_scale=8.0
    )
    asking = replace(plain, guidance_rescale=0.6, seed=1)

    def network(
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor | None,
        added: object,
        controls: object,
    ) -> torch.Tensor:
        """Compute row by row, as an executor; the last three rows have the negative prompt."""
        return torch.stack([row.sin() * (1 + i // 3) for i, row in enumerate(x)])

    def step(all_params: list[SamplingParams]) -> list[torch.Tensor]:
        batch = [start(tiny_sd, params) for params in all_params]
        advance(network, batch, torch.float32)
        return [t.x for t in batch]

    alone, unasked = step([asking, plain, plain]), step([plain, replace(plain, seed=1), plain])
    together = step([plain, asking, replace(asking, seed=2)])
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[0], unasked[0])
    assert not torch.equal(alone[0], unasked[1])


def test_rescaled_guidance_has_the_deviation_of_the_conditional_output() -> None:
    """Lin et al. 2023, equation 15, with a share of 1 and a sampler that shows the output."""
    cond, uncond = torch.randn(2, 1, 4, 6, 5, generator=torch.Generator().manual_seed(0)) + 0.3
    table = compile_table("lcm", "trailing", 1, NoiseSchedule(prediction_type="sample"))
    positive, negative = Conditioning(torch.zeros(1, 4)), Conditioning(torch.ones(1, 4))
    state = DenoisingState.start(
        table,
        ImageNoise(0, (4, 6, 5)),
        torch.device("cpu"),
        positive,
        negative=negative,
        guidance_scale=7.0,
        guidance_rescale=1.0,
    )
    advance(lambda *inputs: torch.cat([cond, uncond]), [state], torch.float32)
    strong = uncond + 7.0 * (cond - uncond)
    torch.testing.assert_close(state.x, (strong * cond.std() / strong.std())[0])
