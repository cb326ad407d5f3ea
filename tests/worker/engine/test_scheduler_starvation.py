"""A waiting slot is served soon, with any number of others of any priority."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.worker.engine.scheduling import Costs, Waiting
from worker.engine.batcher import PATIENCE_S, Batcher

STEPS = 3  # of every image
ROOM = 16  # slots of the engine, four times what steps together
Newcomer = Callable[[float], Waiting]

STREAMS: dict[str, Newcomer] = {
    "high priority, same size": lambda now: Waiting("a", 2, now, priority=0, steps_left=STEPS),
    "high priority, another size": lambda now: Waiting("b", 2, now, priority=0, steps_left=STEPS),
    "near deadlines": lambda now: Waiting(
        "a", 2, now, deadline_at=now + 1.3 * STEPS * 0.05, steps_left=STEPS
    ),
    "ever new sizes": lambda now: Waiting(f"{now}", 2, now, priority=0, steps_left=STEPS),
}


@pytest.mark.parametrize("priority", [1, 2])
@pytest.mark.parametrize("stream", STREAMS)
def test_endless_stream_starves_no_slot(stream: str, priority: int) -> None:
    """Admit a new slot whenever one is free."""
    costs = Costs(most_rows=4)
    batcher = Batcher(costs)
    victim = Waiting("a", 2, 0.0, priority=priority, steps_left=STEPS)
    slots, now = [victim], 0.0
    while victim.steps_left:
        slots += [STREAMS[stream](now + i / 1e4) for i in range(ROOM - len(slots))]
        batch = batcher.choose(slots, now)
        now += costs.step_seconds(batch[0].group, 4)
        for slot in batch:
            slot.steps_left -= 1
        slots = [slot for slot in slots if slot.steps_left]
        # Due after its patience; then those who came before go first, or all take turns.
        assert now <= priority * PATIENCE_S + (ROOM * STEPS + 1) * costs.step_seconds("a", 4)
