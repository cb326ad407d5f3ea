"""Jobs with every kind of LoRA, weight and interval share the engine: each image is as alone."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.lora.merging import Strength, layers_of, networks, with_loras
from models.lora.names import TEXT, UNET
from models.lora.reading import read_lora
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.loras.lora_use import PRESETS, LoraUse
from tests.models.lora import spellings
from tests.models.lora.lycoris_oracle import KINDS
from tests.models.lora.test_kinds import changes_of, written
from tests.support.tiny_models import CONTEXT, write_tiny_sd
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob, Pixels

SLOTS = 6
SAMPLE = ("LoHa", "LoKr with core", "full difference", "DoRA of columns")
COMMON: dict[str, Any] = {"steps": 4, "sampler": "ddim", "schedule": "leading", "seed": 3}


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = write_tiny_sd(tmp_path_factory.mktemp("models") / "sd")
    return load_model(str(folder), torch.device("cpu"))


@pytest.fixture(scope="module")
def home(tiny_sd: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a LoRA of each kind, and one that bundles a word."""
    folder = tmp_path_factory.mktemp("loras")
    for number, kind in enumerate(KINDS):
        changes = changes_of(tiny_sd, kind, seed=number)
        for module in changes.values():
            for name, parameter in module.named_parameters():
                if name != "dora_scale":
                    parameter.data *= 0.3
        written(changes, folder / f"{kind.replace(', ', ' ')}.safetensors")
    layers = layers_of(tiny_sd)
    pairs = spellings.random_pairs(layers, [(UNET, "conv_in")])
    # Two vectors for the word "hat", which is two tokens otherwise, too.
    word = {"bundle_emb.hat.string_to_param.*": torch.randn(2, CONTEXT)}
    spellings.save(folder / "word.safetensors", spellings.kohya(pairs) | word)
    both = spellings.random_pairs(layers, spellings.attention_of(layers))
    spellings.save(folder / "both.safetensors", spellings.kohya(both))
    return folder


def engine_of(model: LatentDiffusion, home: Path, mib: int = 64) -> DiffusionEngine:
    loras = MergedLoras(LoraRegistry(home), mib * MIB)
    return DiffusionEngine({"tiny": unmeasured(model, SLOTS)}, SLOTS, merged_loras=loras)


def admit(
    engine: DiffusionEngine, name: str, uses: Sequence[LoraUse], **changes: Any
) -> RecordingListener:
    listener = RecordingListener()
    its_request = request(loras=tuple(uses), **COMMON | changes)
    engine.prepare(its_request)
    engine.admit(AdmittedJob(name, its_request, None, None, listener))
    return listener


def alone(model: LatentDiffusion, home: Path, uses: Sequence[LoraUse], **changes: Any) -> Pixels:
    engine = engine_of(model, home)
    listener = admit(engine, "alone", uses, **changes)
    run(engine)
    return listener.images[0][0]


def crowd(kinds: Sequence[str]) -> list[list[LoraUse]]:
    """Return the LoRAs of each job: each kind, several together, by part and by time."""
    names = [kind.replace(", ", " ") for kind in kinds]
    first, second = LoraUse(name=names[0]), LoraUse(name=names[1], weight=-0.7)
    return [
        [],
        *([LoraUse(name=name)] for name in names),
        [first, second],
        [LoraUse(name="word", weight=0.5)],
        [LoraUse(name="both", weight=0.5, text_encoder_weight=-1.0)],
        [LoraUse(name="both", block_weights=PRESETS["OUTALL"])],
        [LoraUse(name="both", start=0.5)],
        [LoraUse(name=names[0], end=0.25), LoraUse(name=names[1], start=0.25)],
        [LoraUse(name="both", start=0.25, end=0.75)],
    ]


@pytest.mark.parametrize(
    "kinds", [SAMPLE, pytest.param(tuple(KINDS), marks=pytest.mark.long)], ids=["sample", "all"]
)
def test_a_mixed_crowd_gives_what_each_gives_alone(
    tiny_sd: LatentDiffusion, home: Path, kinds: Sequence[str]
) -> None:
    sets = crowd(kinds)
    wanted = [alone(tiny_sd, home, uses, prompt="the red hat cat") for uses in sets]
    assert len({pixels.tobytes() for pixels in wanted}) == len(sets)
    dice = random.Random(4)
    engine = engine_of(tiny_sd, home, mib=1)  # merged models are evicted while others run
    waiting = [*range(len(sets)), *range(0, len(sets), 3)]
    dice.shuffle(waiting)
    listeners: list[tuple[int, RecordingListener]] = []
    while waiting or not engine.idle:
        while waiting and engine.free_slots and dice.random() < 0.7:
            number = waiting.pop()
            name = f"job {len(waiting)}"
            listeners.append((number, admit(engine, name, sets[number], prompt="the red hat cat")))
        engine.step()
    for number, listener in listeners:
        np.testing.assert_array_equal(listener.images[0][0], wanted[number])


@pytest.mark.parametrize("interval", [(0.0, 0.5), (0.25, 1.0), (0.25, 0.75)])
def test_lora_acts_on_the_unet_between_its_shares_of_the_steps(
    tiny_sd: LatentDiffusion, home: Path, interval: tuple[float, float]
) -> None:
    begin, end = interval
    layers = layers_of(tiny_sd)
    lora = read_lora(home / "both.safetensors", layers)
    whole = with_loras(tiny_sd, [(lora, 1.0)])
    in_text = with_loras(tiny_sd, [(lora, Strength(unet=0.0, text=1.0))])
    params = SamplingParams(
        prompt="the red cat", width=32, height=32, steps=4, sampler="ddim", schedule="leading",
        guidance_scale=3.0,
    )  # fmt: skip
    [state] = in_text.start(params, [3])
    for row in range(4):
        (whole if begin <= row / 4 < end else in_text).advance([state])
    expected = tiny_sd.decode(state.x[None])[0].numpy()
    uses = [LoraUse(name="both", start=begin, end=end)]
    changes = {"prompt": "the red cat", "guidance_scale": 3.0, "width": 32, "height": 32}
    np.testing.assert_array_equal(alone(tiny_sd, home, uses, **changes), expected)


def test_second_pass_begins_the_intervals_again(tiny_sd: LatentDiffusion, home: Path) -> None:
    engine = engine_of(tiny_sd, home)
    listener = admit(
        engine,
        "hires",
        [LoraUse(name="both", start=0.5)],
        enlargement={"width": 64, "height": 64, "steps": 4, "strength": 1.0},
        width=32,
        height=32,
    )
    [slot] = engine._slots
    before, after = (model for _, model in slot.timeline)
    used: list[tuple[int, LatentDiffusion]] = []
    while not engine.idle:
        if slot in engine._slots:
            used.append((slot.state.row, slot.model))
        engine.step()
    expected = [(row, before if row < 2 else after) for row in (*range(4), *range(4))]
    assert used == expected
    assert listener.images


def test_models_of_a_request_are_kept_together_however_small_the_memory(
    tiny_sd: LatentDiffusion, home: Path
) -> None:
    loras = MergedLoras(LoraRegistry(home), budget=0)
    uses = (LoraUse(name="both", end=0.5), LoraUse(name="word", start=0.5))
    first = [model for _, model in loras.timeline(tiny_sd, uses)]
    again = [model for _, model in loras.timeline(tiny_sd, uses)]
    assert len(first) == 2
    assert all(one is other for one, other in zip(first, again, strict=True))
    unet, encoder = (networks(first[1])[name] for name in (UNET, TEXT))
    assert encoder is networks(tiny_sd)[TEXT]  # prompts need it in the first model only
    assert unet is not tiny_sd.unet


def test_bundled_word_is_read_with_its_lora_only(tiny_sd: LatentDiffusion, home: Path) -> None:
    loras = MergedLoras(LoraRegistry(home), MIB)
    ((_, model),) = loras.timeline(tiny_sd, (LoraUse(name="word"),))
    tokenizer, before = model.conditioner.tokenizer, tiny_sd.conditioner.tokenizer
    assert tokenizer is not None
    assert before is not None
    assert tokenizer.tokens("the hat") == [*before.tokens("the"), *tokenizer.tokens("hat")]
    assert len(tokenizer.tokens("hat")) == 2
    assert before.tokens("hat") != tokenizer.tokens("hat")


def test_file_with_a_word_may_be_named_twice(tiny_sd: LatentDiffusion, home: Path) -> None:
    uses = [LoraUse(name="word"), LoraUse(name="word", block_weights=26 * (0.5,))]
    both = alone(tiny_sd, home, uses, prompt="the hat")
    one = alone(tiny_sd, home, uses[:1], prompt="the hat")
    assert not np.array_equal(both, one)


def test_two_files_with_one_word_are_refused(tiny_sd: LatentDiffusion, home: Path) -> None:
    shutil.copy(home / "word.safetensors", home / "again.safetensors")
    with pytest.raises(
        JobFailed, match="LoRA word cannot be used: its embedding hat: the model al"
    ):
        alone(tiny_sd, home, [LoraUse(name="again"), LoraUse(name="word")])
