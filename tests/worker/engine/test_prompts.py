"""Signs in a prompt and layers left out change the picture, or do not, as a client meant them."""

from __future__ import annotations

import numpy as np
import pytest

from models.pipeline import LatentDiffusion
from tests.worker.engine.test_engine import Heard, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels


@pytest.fixture(scope="module")
def engine(model: LatentDiffusion) -> DiffusionEngine:
    return DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4)


def drawn(engine: DiffusionEngine, **changes: object) -> Pixels:
    heard = Heard()
    engine.admit(AdmittedJob("job", request(**changes), None, None, heard))
    run(engine)
    return heard.images[0][0]


@pytest.mark.parametrize("prompt", ["the cat", "(the cat:1)", "the ([cat])", "the cat BREAK "])
def test_signs_that_change_nothing_give_the_same_bytes(
    engine: DiffusionEngine, prompt: str
) -> None:
    assert np.array_equal(drawn(engine, prompt=prompt), drawn(engine, prompt="the cat"))


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
def test_what_is_meant_otherwise_is_drawn_otherwise(
    engine: DiffusionEngine, changes: dict[str, object]
) -> None:
    plain = {"negative_prompt": "red"} if "negative_prompt" in changes else {}
    assert not np.array_equal(drawn(engine, **changes), drawn(engine, prompt="the cat", **plain))
