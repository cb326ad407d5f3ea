"""Tests of the fault injector: all faults equally often, reproducible, and repaired at the end."""

import random
from types import SimpleNamespace
from typing import Any, cast

from tests.chaos.faults import Fault, FaultInjector, FaultSteps
from tests.chaos.stack import ChaosStack, Program

PROGRAMS = [SimpleNamespace(pid=1)]
STACK = cast(ChaosStack, SimpleNamespace(apis=PROGRAMS, workers=PROGRAMS))


def faults(unrepaired: set[str]) -> list[Fault]:
    def fault(name: str, part: Any) -> Fault:
        def inject(_: ChaosStack, __: Program, rng: random.Random) -> FaultSteps:
            unrepaired.add(name)
            yield rng.uniform(0.0, 0.01)
            yield 0.0  # not repaired yet
            unrepaired.discard(name)

        return Fault(name, part, inject)

    return [fault("killed", "api"), fault("frozen", "api"), fault("away", "redis")]


def injected(seed: int, incidents: int) -> list[str]:
    unrepaired: set[str] = set()
    injector = FaultInjector(STACK, faults(unrepaired), pause_s=0.001, rng=random.Random(seed))
    injector.run(until=lambda: len(injector.incidents) >= incidents)
    assert unrepaired == set()
    return [incident.fault.name for incident in injector.incidents]


def test_every_fault_happens_once_before_any_happens_twice() -> None:
    names = injected(seed=1, incidents=6)
    assert sorted(names[:3]) == sorted(names[3:]) == ["away", "frozen", "killed"]


def test_same_seed_gives_the_same_faults() -> None:
    runs = {tuple(injected(seed, incidents=9)) for seed in (1, 1, 2, 3)}
    assert len(runs) == 3
