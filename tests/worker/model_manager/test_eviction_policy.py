"""Eviction rules, and their invariants under any order of jobs, loads and failures."""

from __future__ import annotations

from math import inf

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry, Plan

PATIENCE = 10.0


def policy_of(budget: float = inf, **entries: ModelEntry) -> EvictionPolicy:
    return EvictionPolicy(entries, budget, PATIENCE)


def load(
    policy: EvictionPolicy, now: float, *names: str, in_use: tuple[str, ...] = ()
) -> list[str]:
    """Load the models one after the other, each with one job; return the evicted models."""
    evicted: list[str] = []
    for name in names:
        plan = policy.plan(now, {name: 0.0}, in_use)
        evicted += plan.evict
        assert plan.load is not None, name
        policy.load_finished(now)
        policy.plan(now, {}, [name])
    return evicted


def test_least_recently_used_model_is_evicted_first() -> None:
    policy = policy_of(
        300, a=ModelEntry(100), b=ModelEntry(100), c=ModelEntry(100), d=ModelEntry(150)
    )
    load(policy, 0, "a", "b", "c")
    policy.plan(1, {}, ["b"])
    policy.plan(2, {}, ["a"])
    assert load(policy, 3, "d") == ["c", "b"]
    assert policy.loaded == ("a", "d")


def test_resident_models_and_models_in_use_are_never_evicted() -> None:
    policy = policy_of(200, a=ModelEntry(100, resident=True), b=ModelEntry(100), c=ModelEntry(100))
    load(policy, 0, "a", "b")
    assert policy.plan(100, {"c": 0.0}, ["b"]) == Plan()
    assert list(policy.accepting) == ["a", "b"]
    assert load(policy, 200, "c") == ["b"]


def test_busy_model_accepts_no_more_jobs_after_the_patience_of_another() -> None:
    policy = policy_of(100, a=ModelEntry(100), b=ModelEntry(100))
    load(policy, 0, "a")
    policy.plan(PATIENCE / 2, {"b": PATIENCE}, ["a"])
    assert list(policy.accepting) == ["a"]  # it was loaded less than the patience ago
    policy.plan(PATIENCE, {"b": PATIENCE - 1}, ["a"])
    assert list(policy.accepting) == ["a"]
    assert policy.plan(PATIENCE, {"b": PATIENCE}, ["a"]) == Plan()
    assert not policy.accepting
    assert policy.plan(PATIENCE + 1, {"b": PATIENCE + 1}, []) == Plan(("a",), "b")


def test_new_model_gets_its_first_job_before_it_is_evicted() -> None:
    policy = policy_of(100, a=ModelEntry(100), b=ModelEntry(100))
    assert policy.plan(0, {"a": 0.0}, []) == Plan((), "a")
    policy.load_finished(0)
    long = {"b": 5 * PATIENCE}
    assert policy.plan(PATIENCE / 2, long, []) == Plan()
    assert list(policy.accepting) == ["a"]
    policy.plan(PATIENCE / 2, long, ["a"])
    assert policy.plan(PATIENCE / 2 + 1, long, []) == Plan(("a",), "b")
    policy.load_finished(PATIENCE)
    # A model without any job is evicted after the patience.
    assert policy.plan(2 * PATIENCE, {"a": PATIENCE}, []) == Plan(("b",), "a")


def test_busy_model_accepts_jobs_again_when_no_other_is_waited_for() -> None:
    policy = policy_of(100, a=ModelEntry(100), b=ModelEntry(100))
    load(policy, 0, "a")
    policy.plan(PATIENCE, {"b": PATIENCE}, ["a"])
    policy.plan(PATIENCE, {}, ["a"])
    assert list(policy.accepting) == ["a"]


def test_model_is_loaded_after_those_it_needs_and_evicted_before_them() -> None:
    policy = policy_of(
        200, base=ModelEntry(100, needs=("refiner",)), refiner=ModelEntry(100), other=ModelEntry(50)
    )
    assert policy.plan(0, {"base": 0.0}, []).load == "refiner"
    policy.load_finished(0)
    assert policy.accepting == ("refiner",)
    assert policy.plan(0, {"base": 0.0}, []).load == "base"
    policy.load_finished(0)
    assert set(policy.accepting) == {"refiner", "base"}
    policy.plan(5, {}, ["base"])
    assert policy.plan(6, {"other": 0.0}, []) == Plan(("base",), "other")
    policy.load_finished(6)
    policy.plan(6, {}, ["other"])
    assert policy.plan(7, {"base": 0.0}, ["refiner"]) == Plan(("other",), "base")


def test_idle_model_is_evicted_unless_another_needs_it() -> None:
    policy = policy_of(
        base=ModelEntry(1, needs=("refiner",), idle_unload_s=60),
        refiner=ModelEntry(1, idle_unload_s=30),
        kept=ModelEntry(1, resident=True, idle_unload_s=1),
        other=ModelEntry(1),
    )
    load(policy, 0, "kept", "other", "base", "base")
    assert policy.plan(59, {}, []) == Plan()
    assert set(policy.plan(60, {}, []).evict) == {"base", "refiner"}
    assert policy.plan(1e9, {}, []) == Plan()


def test_free_memory_bounds_loading_as_well() -> None:
    policy = policy_of(a=ModelEntry(100), b=ModelEntry(100))
    load(policy, 0, "a")
    assert policy.plan(1, {"b": 0.0}, [], free_bytes=99) == Plan(("a",), "b")
    policy.load_failed()
    # No other model is left to evict: the load is tried.
    assert policy.plan(2, {"b": 0.0}, [], free_bytes=50).load == "b"


def test_models_that_can_never_fit_are_reported() -> None:
    policy = policy_of(
        100,
        small=ModelEntry(60),
        kept=ModelEntry(50, resident=True),
        base=ModelEntry(30, needs=("refiner",)),
        refiner=ModelEntry(30),
    )
    too_large = policy.too_large()
    assert list(too_large) == ["small", "base"]
    assert "30 + 30 bytes" in too_large["base"]


class EvictionMachine(RuleBasedStateMachine):
    """Any order of jobs, loads and failures."""

    @initialize(
        budget=st.integers(4, 12),
        sizes=st.lists(st.integers(1, 4), min_size=4, max_size=4),
        resident=st.booleans(),
        idle=st.sampled_from([None, 5.0, 20.0]),
    )
    def begin(self, budget: int, sizes: list[int], resident: bool, idle: float | None) -> None:
        entries = {
            "a": ModelEntry(sizes[0], resident=resident),
            "b": ModelEntry(sizes[1], needs=("c",), idle_unload_s=idle),
            "c": ModelEntry(sizes[2], idle_unload_s=idle),
            "d": ModelEntry(sizes[3]),
        }
        self.policy = EvictionPolicy(entries, float(budget), PATIENCE)
        self.now = 0.0
        self.since: dict[str, float] = {}
        self.in_use: set[str] = set()
        self.used: dict[str, float] = {}

    @rule(name=st.sampled_from("abcd"))
    def job_arrives(self, name: str) -> None:
        if name not in self.policy.too_large():
            self.since.setdefault(name, self.now)

    @rule(name=st.sampled_from("abcd"))
    def job_starts(self, name: str) -> None:
        if name in self.policy.accepting:
            self.in_use.add(name)
            self.since.pop(name, None)

    @rule(name=st.sampled_from("abcd"))
    def job_ends(self, name: str) -> None:
        self.in_use.discard(name)

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0]))
    def plan(self, seconds: float) -> None:
        self.now += seconds
        before = set(self.policy.loaded)
        in_use = {one for name in self.in_use for one in self._required(name)}
        for name in in_use:
            self.used[name] = self.now
        waiting = {name: self.now - since for name, since in self.since.items()}
        plan = self.policy.plan(self.now, waiting, self.in_use)
        evicted = set(plan.evict)
        assert evicted <= before
        assert evicted.isdisjoint(in_use)
        assert not any(self.policy.entries[name].resident for name in evicted)
        if plan.load is not None:
            # Of models that no other needs, the evicted ones were used before the kept ones.
            kept = {n for n in before - evicted - in_use if n in "d"}
            latest = [self.used.get(n, 0.0) for n in evicted if n in "d"]
            assert not latest or all(self.used.get(n, 0.0) >= max(latest) for n in kept)

    @rule(succeeds=st.booleans())
    def load_ends(self, succeeds: bool) -> None:
        if (name := self.policy.loading) is None:
            return
        if succeeds:
            self.policy.load_finished(self.now)
            for one in self._required(name):
                self.used[one] = self.now
        else:
            self.policy.load_failed()

    @rule(name=st.sampled_from("abcd"))
    def awaited_model_is_loaded_in_the_end(self, name: str) -> None:
        """After the running jobs have ended, even if the other models have many more."""
        if name in self.policy.too_large():
            return
        self.since = {name: self.now}
        for _ in range(12):
            if self.policy.is_ready(name):
                break
            self.plan(PATIENCE)
            self.in_use &= set(self.policy.accepting)  # jobs of draining models end
            self.load_ends(succeeds=True)
        assert self.policy.is_ready(name)

    @invariant()
    def loaded_models_fit_and_are_complete(self) -> None:
        if hasattr(self, "policy"):
            assert self.policy.used_bytes <= self.policy.budget
            for name in self.policy.loaded:  # with all models that they need
                assert self.policy.is_ready(name)
            assert self.in_use <= set(self.policy.loaded)

    def _required(self, name: str) -> set[str]:
        return {name, *self.policy.entries[name].needs}


TestEviction = EvictionMachine.TestCase
TestEviction.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
