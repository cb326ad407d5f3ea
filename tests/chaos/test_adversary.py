"""The adversary: fair to all faults, the same for the same seed, and tidy in the end."""

import random
from types import SimpleNamespace
from typing import Any, cast

from tests.chaos.faults import Adversary, Course, Fault
from tests.chaos.stack import LocalStack, Program

PROGRAMS = [SimpleNamespace(pid=1)]
HOUSE = cast(LocalStack, SimpleNamespace(apis=PROGRAMS, workers=PROGRAMS))


def faults(open_wounds: set[str]) -> list[Fault]:
    def fault(name: str, part: Any) -> Fault:
        def harm(_: LocalStack, __: Program, lot: random.Random) -> Course:
            open_wounds.add(name)
            yield lot.uniform(0.0, 0.01)
            yield 0.0  # not well yet
            open_wounds.discard(name)

        return Fault(name, part, harm)

    return [fault("killed", "api"), fault("frozen", "api"), fault("away", "redis")]


def played(seed: int, incidents: int) -> list[str]:
    wounds: set[str] = set()
    adversary = Adversary(HOUSE, faults(wounds), pause_s=0.001, rng=random.Random(seed))
    adversary.work(until=lambda: len(adversary.incidents) >= incidents)
    assert wounds == set()
    return [incident.fault.name for incident in adversary.incidents]


def test_every_fault_has_its_turn_before_any_has_two() -> None:
    names = played(seed=1, incidents=6)
    assert sorted(names[:3]) == sorted(names[3:]) == ["away", "frozen", "killed"]


def test_a_seed_says_what_happens() -> None:
    games = {tuple(played(seed, incidents=9)) for seed in (1, 1, 2, 3)}
    assert len(games) == 3
