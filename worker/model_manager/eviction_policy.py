"""Which models are in memory: what to load next, and what to let go of for it.

Pure: the time and who waits in, one move out; no torch, no threads, no Redis. Models whose jobs are
held are never let go of; of the others the one goes first whose last job is longest ago. When all
that could make room are busy for longer than their `patience`, the one least recently loaded takes
no more jobs, so that its last leaves: two busy models that do not fit together take turns. A
newcomer has as much patience to get its first job in: else the other, waiting since it left, would
have it out again at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True)
class ModelEntry:
    """A model that may be in memory.

    `stays`: it is loaded first and never let go of. `needs`: the models it draws with, too, which
    must be there as long as it is. `idle_s`: how long it stays without a job; None: until the place
    is wanted.
    """

    size: float  # bytes
    stays: bool = False
    needs: tuple[str, ...] = ()
    idle_s: float | None = None


@dataclass(frozen=True)
class Move:
    """Let go of those to be `evicted`, then `load`, if there is anything to load."""

    evicted: tuple[str, ...] = ()
    load: str | None = None


NO_MOVE = Move()


@dataclass
class _Stay:
    """Since when a model is in memory, when it last had a job, and whether it had any."""

    since: float
    used: float
    had_a_job: bool = False


@dataclass
class EvictionPolicy:
    """The books of one worker's memory. `budget` is in bytes, and is never exceeded; `patience` in
    seconds: for how long the jobs of a model that is not there let others go on."""

    lodgers: Mapping[str, ModelEntry]
    budget: float = inf
    patience: float = 10.0
    loading: str | None = None
    leaving: frozenset[str] = frozenset()  # they take no more jobs
    _stays: dict[str, _Stay] = field(default_factory=dict)

    @property
    def there(self) -> tuple[str, ...]:
        """The models in memory."""
        return tuple(self._stays)

    @property
    def taken(self) -> float:
        """Bytes of those in memory, and of the one on its way there."""
        there = {*self._stays, *([self.loading] if self.loading else [])}
        return sum(self.lodgers[name].size for name in there)

    def complete(self, name: str) -> bool:
        """Whether it is in memory with all that it needs."""
        return all(one in self._stays for one in self._party(name))

    @property
    def takes(self) -> tuple[str, ...]:
        """Those that take jobs now."""
        return tuple(n for n in self._stays if n not in self.leaving and self.complete(n))

    def too_large(self, name: str) -> bool:
        """Whether it would not fit even if all were let go of that may be."""
        always = {
            one for n, lodger in self.lodgers.items() if lodger.stays for one in self._party(n)
        }
        return self._size(always | self._party(name)) > self.budget

    def turn(
        self,
        now: float,
        waiting: Mapping[str, float],
        in_use: Collection[str],
        free: float = inf,
    ) -> Move:
        """What is to be done now.

        `waiting`: the models that are wanted, and for how many seconds already. `in_use`: those
        whose jobs are held. `free`: bytes there are, besides the budget.
        """
        in_use = {one for name in in_use for one in self._party(name)} & self._stays.keys()
        for name in in_use:
            self._stays[name].used = now
            self._stays[name].had_a_job = True
        self.leaving = frozenset()
        if self.loading is not None:
            return NO_MOVE
        idle = self._idle(now, waiting, in_use)
        if idle:
            return self._let_go(idle)
        wanted = self._wanted(waiting)
        return NO_MOVE if wanted is None else self._make_room(wanted, now, waiting, in_use, free)

    def loaded(self, now: float) -> None:
        """What was being loaded is there."""
        assert self.loading is not None
        self._stays[self.loading] = _Stay(now, now)
        for name in self.lodgers[self.loading].needs:
            self._stays[name].used = now
        self.loading = None

    def failed(self) -> None:
        """What was being loaded will not come."""
        self.loading = None

    # -- deciding -------------------------------------------------------------------------------

    def _wanted(self, waiting: Mapping[str, float]) -> str | None:
        """The model to be loaded next: one that stays, else the one waited for longest."""
        absent = [name for name in self.lodgers if name in waiting and not self.complete(name)]
        absent.sort(key=lambda name: (not self.lodgers[name].stays, -waiting[name]))
        return next(iter(absent), None)

    def _make_room(
        self,
        wanted: str,
        now: float,
        waiting: Mapping[str, float],
        in_use: Set[str],
        free: float,
    ) -> Move:
        party = self._party(wanted)
        absent = [name for name in self._order(wanted) if name not in self._stays]
        size = self._size(absent)
        short = max(self.taken + size - self.budget, size - free)
        movable = [n for n in self._by_last_use() if n not in party and not self._must_stay(n)]
        idle = [n for n in movable if n not in in_use and not self._is_new(n, now)]
        evicted, left = self._enough(idle, short)
        # That too little is free although nobody else is there may be a matter of counting.
        alone = idle == movable and self._fits(size - self._size(evicted))
        if left <= 0 or alone:
            self.loading = absent[0]
            return Move(self._let_go(evicted).evicted, self.loading)
        if waiting[wanted] >= self.patience:
            due = [n for n in movable if n in in_use and self._since(n) + self.patience <= now]
            due.sort(key=self._since)
            self.leaving = frozenset([*evicted, *self._enough(due, left)[0]])
        return NO_MOVE

    def _is_new(self, name: str, now: float) -> bool:
        """Whether it may still be waiting for its first job."""
        return not self._stays[name].had_a_job and now < self._since(name) + self.patience

    def _enough(self, movable: Sequence[str], short: float) -> tuple[list[str], float]:
        """As many of these as it takes to free `short` bytes, and what is then still short."""
        gone: list[str] = []
        for name in movable:
            if short <= 0:
                break
            for one in (*self._dependents(name), name):
                if one not in gone:
                    gone.append(one)
                    short -= self.lodgers[one].size
        return gone, short

    def _idle(self, now: float, waiting: Mapping[str, float], in_use: Set[str]) -> list[str]:
        """Those that have had nothing to do for as long as they may."""
        wanted = {one for name in waiting for one in self._party(name)}
        idle = {
            name
            for name, stay in self._stays.items()
            if name not in in_use and not self._must_stay(name) and name not in wanted
            if now - stay.used >= (self.lodgers[name].idle_s or inf)
        }
        return [name for name in idle if idle.issuperset(self._dependents(name))]

    def _let_go(self, names: Sequence[str]) -> Move:
        for name in names:
            del self._stays[name]
        return Move(evicted=tuple(names))

    # -- who belongs together -------------------------------------------------------------------

    def _order(self, name: str) -> tuple[str, ...]:
        """A model after those it needs."""
        return (*self.lodgers[name].needs, name)

    def _party(self, name: str) -> set[str]:
        return set(self._order(name))

    def _dependents(self, name: str) -> list[str]:
        """Those in memory that need it."""
        return [n for n in self._stays if name in self.lodgers[n].needs]

    def _must_stay(self, name: str) -> bool:
        return self.lodgers[name].stays or any(
            lodger.stays and name in lodger.needs for lodger in self.lodgers.values()
        )

    def _by_last_use(self) -> list[str]:
        """Those in memory, the one not used for longest first; whoever needs another before it."""
        return sorted(self._stays, key=lambda n: (self._stays[n].used, not self.lodgers[n].needs))

    def _fits(self, more: float) -> bool:
        return self.taken + more <= self.budget

    def _since(self, name: str) -> float:
        return self._stays[name].since

    def _size(self, names: Collection[str]) -> float:
        return sum(self.lodgers[name].size for name in names)
