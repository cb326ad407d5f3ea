"""Prompt syntax and skipped layers change the image where they should, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from models.pipeline import LatentDiffusion
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels


@pytest.fixture(scope="module")
def engine(model: LatentDiffusion) -> DiffusionEngine:
    return DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4)


def generate(engine: DiffusionEngine, **changes: object) -> Pixels:
    listener = RecordingListener()
    engine.admit(AdmittedJob("job", request(**changes), None, None, listener))
    run(engine)
    return listener.images[0][0]


@pytest.mark.parametrize("prompt", ["the cat", "(the cat:1)", "the ([cat])", "the cat BREAK "])
def test_prompt_syntax_without_effect_gives_the_same_bytes(
    engine: DiffusionEngine, prompt: str
) -> None:
    assert np.array_equal(generate(engine, prompt=prompt), generate(engine, prompt="the cat"))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "the (cat:1.5)"},
        {"prompt": "the BREAK cat"},
        {"prompt": "the (cat)", "prompt_syntax": "plain"},
        {"prompt": "the cat", "clip_skip": 1},
        {"prompt": "the cat", "negative_prompt": "(red:1.5)"},
    ],
)
def test_different_emphasis_gives_a_different_image(
    engine: DiffusionEngine, changes: dict[str, object]
) -> None:
    plain = {"negative_prompt": "red"} if "negative_prompt" in changes else {}
    assert not np.array_equal(
        generate(engine, **changes), generate(engine, prompt="the cat", **plain)
    )
