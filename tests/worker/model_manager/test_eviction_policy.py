"""Who is in memory: any order of jobs, loads and failures, and the turns of two that do not fit."""

from __future__ import annotations

from math import inf

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry, Move

PATIENCE = 10.0


def residency(budget: float = inf, **lodgers: ModelEntry) -> EvictionPolicy:
    return EvictionPolicy(lodgers, budget, PATIENCE)


def bring(
    books: EvictionPolicy, now: float, *names: str, in_use: tuple[str, ...] = ()
) -> list[str]:
    """Load these one after the other, and have a job drawn by each; answers those that went."""
    gone: list[str] = []
    for name in names:
        move = books.turn(now, {name: 0.0}, in_use)
        gone += move.evicted
        assert move.load is not None, name
        books.loaded(now)
        books.turn(now, {}, [name])
    return gone


def test_the_one_whose_last_job_is_longest_ago_goes_first() -> None:
    books = residency(
        300, a=ModelEntry(100), b=ModelEntry(100), c=ModelEntry(100), d=ModelEntry(150)
    )
    bring(books, 0, "a", "b", "c")
    books.turn(1, {}, ["b"])
    books.turn(2, {}, ["a"])
    assert bring(books, 3, "d") == ["c", "b"]
    assert books.there == ("a", "d")


def test_what_is_in_use_or_stays_never_goes() -> None:
    books = residency(200, a=ModelEntry(100, stays=True), b=ModelEntry(100), c=ModelEntry(100))
    bring(books, 0, "a", "b")
    assert books.turn(100, {"c": 0.0}, ["b"]) == Move()
    assert list(books.takes) == ["a", "b"]
    assert bring(books, 200, "c") == ["b"]


def test_a_busy_model_takes_no_more_jobs_once_another_has_waited_long_enough() -> None:
    books = residency(100, a=ModelEntry(100), b=ModelEntry(100))
    bring(books, 0, "a")
    books.turn(PATIENCE / 2, {"b": PATIENCE}, ["a"])
    assert list(books.takes) == ["a"]  # it came only a moment ago
    books.turn(PATIENCE, {"b": PATIENCE - 1}, ["a"])
    assert list(books.takes) == ["a"]
    assert books.turn(PATIENCE, {"b": PATIENCE}, ["a"]) == Move()
    assert not books.takes
    assert books.turn(PATIENCE + 1, {"b": PATIENCE + 1}, []) == Move(("a",), "b")


def test_a_newcomer_gets_its_first_job_in_before_the_other_has_it_out() -> None:
    books = residency(100, a=ModelEntry(100), b=ModelEntry(100))
    assert books.turn(0, {"a": 0.0}, []) == Move((), "a")
    books.loaded(0)
    long = {"b": 5 * PATIENCE}
    assert books.turn(PATIENCE / 2, long, []) == Move()
    assert list(books.takes) == ["a"]
    books.turn(PATIENCE / 2, long, ["a"])
    assert books.turn(PATIENCE / 2 + 1, long, []) == Move(("a",), "b")
    books.loaded(PATIENCE)
    # One that no job comes for goes once its time is over.
    assert books.turn(2 * PATIENCE, {"a": PATIENCE}, []) == Move(("b",), "a")


def test_when_nobody_waits_any_more_the_busy_model_goes_on() -> None:
    books = residency(100, a=ModelEntry(100), b=ModelEntry(100))
    bring(books, 0, "a")
    books.turn(PATIENCE, {"b": PATIENCE}, ["a"])
    books.turn(PATIENCE, {}, ["a"])
    assert list(books.takes) == ["a"]


def test_a_model_comes_after_what_it_needs_and_goes_before_it() -> None:
    books = residency(
        200, base=ModelEntry(100, needs=("refiner",)), refiner=ModelEntry(100), other=ModelEntry(50)
    )
    assert books.turn(0, {"base": 0.0}, []).load == "refiner"
    books.loaded(0)
    assert books.takes == ("refiner",)
    assert books.turn(0, {"base": 0.0}, []).load == "base"
    books.loaded(0)
    assert set(books.takes) == {"refiner", "base"}
    books.turn(5, {}, ["base"])
    assert books.turn(6, {"other": 0.0}, []) == Move(("base",), "other")
    books.loaded(6)
    books.turn(6, {}, ["other"])
    assert books.turn(7, {"base": 0.0}, ["refiner"]) == Move(("other",), "base")


def test_a_model_without_jobs_goes_after_its_time_but_not_what_others_need() -> None:
    books = residency(
        base=ModelEntry(1, needs=("refiner",), idle_s=60),
        refiner=ModelEntry(1, idle_s=30),
        kept=ModelEntry(1, stays=True, idle_s=1),
        patient=ModelEntry(1),
    )
    bring(books, 0, "kept", "patient", "base", "base")
    assert books.turn(59, {}, []) == Move()
    assert set(books.turn(60, {}, []).evicted) == {"base", "refiner"}
    assert books.turn(1e9, {}, []) == Move()


def test_room_is_made_in_what_is_free_as_well() -> None:
    books = residency(a=ModelEntry(100), b=ModelEntry(100))
    bring(books, 0, "a")
    assert books.turn(1, {"b": 0.0}, [], free=99) == Move(("a",), "b")
    books.failed()
    # Nobody is left to make room: it is for the loading to find out.
    assert books.turn(2, {"b": 0.0}, [], free=50).load == "b"


def test_what_can_never_fit_is_known() -> None:
    books = residency(
        100,
        small=ModelEntry(60),
        kept=ModelEntry(50, stays=True),
        base=ModelEntry(30, needs=("refiner",)),
        refiner=ModelEntry(30),
    )
    assert books.too_large("small")
    assert books.too_large("base")
    assert not books.too_large("refiner")


class ResidencyMachine(RuleBasedStateMachine):
    """Any order of arrivals, holds, loads and failures."""

    @initialize(
        budget=st.integers(4, 12),
        sizes=st.lists(st.integers(1, 4), min_size=4, max_size=4),
        stays=st.booleans(),
        idle=st.sampled_from([None, 5.0, 20.0]),
    )
    def begin(self, budget: int, sizes: list[int], stays: bool, idle: float | None) -> None:
        lodgers = {
            "a": ModelEntry(sizes[0], stays=stays),
            "b": ModelEntry(sizes[1], needs=("c",), idle_s=idle),
            "c": ModelEntry(sizes[2], idle_s=idle),
            "d": ModelEntry(sizes[3]),
        }
        self.books = EvictionPolicy(lodgers, float(budget), PATIENCE)
        self.now = 0.0
        self.since: dict[str, float] = {}
        self.in_use: set[str] = set()
        self.used: dict[str, float] = {}

    @rule(name=st.sampled_from("abcd"))
    def somebody_waits(self, name: str) -> None:
        if not self.books.too_large(name):
            self.since.setdefault(name, self.now)

    @rule(name=st.sampled_from("abcd"))
    def a_job_is_taken(self, name: str) -> None:
        if name in self.books.takes:
            self.in_use.add(name)
            self.since.pop(name, None)

    @rule(name=st.sampled_from("abcd"))
    def a_job_ends(self, name: str) -> None:
        self.in_use.discard(name)

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0]))
    def turn(self, seconds: float) -> None:
        self.now += seconds
        before = set(self.books.there)
        pinned = {one for name in self.in_use for one in self._party(name)}
        for name in pinned:
            self.used[name] = self.now
        waiting = {name: self.now - since for name, since in self.since.items()}
        move = self.books.turn(self.now, waiting, self.in_use)
        gone = set(move.evicted)
        assert gone <= before
        assert gone.isdisjoint(pinned)
        assert not any(self.books.lodgers[name].stays for name in gone)
        if move.load is not None:
            # Of those that nobody needs, none goes that had a job after one that might have gone.
            free = {n for n in before - gone - pinned if n in "d"}
            latest = [self.used.get(n, 0.0) for n in gone if n in "d"]
            assert not latest or all(self.used.get(n, 0.0) >= max(latest) for n in free)

    @rule(well=st.booleans())
    def loading_ends(self, well: bool) -> None:
        if (name := self.books.loading) is None:
            return
        if well:
            self.books.loaded(self.now)
            for one in self._party(name):
                self.used[one] = self.now
        else:
            self.books.failed()

    @rule(name=st.sampled_from("abcd"))
    def who_waits_has_a_turn_in_the_end(self, name: str) -> None:
        """Once the jobs that are held have left, however busy the others would like to be."""
        if self.books.too_large(name):
            return
        self.since = {name: self.now}
        for _ in range(12):
            if self.books.complete(name):
                break
            self.turn(PATIENCE)
            self.in_use &= set(self.books.takes)  # those that take no more run empty
            self.loading_ends(well=True)
        assert self.books.complete(name)

    @invariant()
    def it_all_fits(self) -> None:
        if hasattr(self, "books"):
            assert self.books.taken <= self.books.budget
            for name in self.books.there:  # what it needs is there as long as it is
                assert self.books.complete(name)
            assert self.in_use <= set(self.books.there)

    def _party(self, name: str) -> set[str]:
        return {name, *self.books.lodgers[name].needs}


TestResidency = ResidencyMachine.TestCase
TestResidency.settings = hypothesis_settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
