"""Decides which model to load next and which models to evict for it.

The decisions are pure: time and waiting jobs are arguments, and the result is a plan; no torch, no
threads, no Redis. Models with running jobs are never evicted; of the others, the least recently
used goes first. If all models that could make room are busy for longer than `patience_s`, the one
loaded longest ago accepts no more jobs, so that it becomes free: two busy models that do not fit
together alternate. A model that was just loaded has the same time to get its first job, because
the evicted model, whose jobs have waited since, would otherwise evict it again at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True)
class ModelEntry:
    """Size and eviction rules of a model.

    `resident`: it is loaded first and never evicted. `needs`: the other models that its jobs run;
    they stay in memory as long as it does. `idle_unload_s`: the time without a job after which it
    is evicted; None: it stays until the memory is needed.
    """

    size: float  # bytes
    resident: bool = False
    needs: tuple[str, ...] = ()
    idle_unload_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """Models to evict, then the model to load, if any."""

    evict: tuple[str, ...] = ()
    load: str | None = None


NO_CHANGE = Plan()


@dataclass
class _Usage:
    """Times at which a model was loaded and last had a job, and whether it had one at all."""

    loaded_at: float
    used_at: float
    had_a_job: bool = False


@dataclass
class EvictionPolicy:
    """Decisions for the model memory of one worker.

    `budget` is in bytes and is never exceeded. `patience_s` is the time for which jobs of a model
    that is not loaded wait before a busy model makes room for it.
    """

    entries: Mapping[str, ModelEntry]
    budget: float = inf
    patience_s: float = 10.0
    loading: str | None = None
    draining: frozenset[str] = frozenset()  # loaded models that accept no more jobs
    _usage: dict[str, _Usage] = field(default_factory=dict)

    def add(self, name: str, entry: ModelEntry) -> None:
        """Take a further model, which is not in memory."""
        self.entries = {**self.entries, name: entry}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models in memory."""
        return tuple(self._usage)

    @property
    def used_bytes(self) -> float:
        """Bytes of the models in memory and of the one that is being loaded."""
        return self._size({*self._usage, *([self.loading] if self.loading else [])})

    @property
    def accepting(self) -> tuple[str, ...]:
        """Names of the models that accept jobs now."""
        return tuple(n for n in self._usage if n not in self.draining and self.is_ready(n))

    def required(self, name: str) -> tuple[str, ...]:
        """Return the models that jobs of `name` run: those it needs, then itself."""
        return (*self.entries[name].needs, name) if name in self.entries else (name,)

    def is_ready(self, name: str) -> bool:
        """Return True if the model and all that it needs are in memory."""
        return all(one in self._usage for one in self.required(name))

    @property
    def residents(self) -> list[str]:
        """Names of the resident models, loaded or not."""
        return [name for name, entry in self.entries.items() if entry.resident]

    def too_large(self) -> dict[str, str]:
        """Return the models that do not fit even when all that may be evicted is, and why."""
        reasons = {}
        for name in self.entries:
            together = {one for n in (*self.residents, name) for one in self.required(n)}
            if self._size(together) > self.budget:
                sizes = (f"{self.entries[one].size:,.0f}" for one in self.required(name))
                reasons[name] = (
                    f"its weights take {' + '.join(sizes)} bytes, which do not fit into the "
                    f"memory_budget of {self.budget:,.0f} with the resident models"
                )
        return reasons

    def plan(
        self,
        now: float,
        waiting: Mapping[str, float],
        in_use: Collection[str],
        free_bytes: float = inf,
        unwanted: Collection[str] = (),
    ) -> Plan:
        """Return the models to evict and to load now.

        `waiting`: the models to be loaded, and the seconds for which each has been waited for.
        `in_use`: the models with running jobs. `free_bytes`: free memory, which bounds the loading
        in addition to the budget. `unwanted`: models to evict as soon as their jobs have ended,
        with those that need them; until then they accept no more jobs.
        """
        in_use = {one for name in in_use for one in self.required(name)} & self._usage.keys()
        for name in in_use:
            self._usage[name].used_at = now
            self._usage[name].had_a_job = True
        leaving = self._leaving(unwanted)
        self.draining = frozenset(leaving)
        if self.loading is not None:
            return NO_CHANGE
        if leaving and in_use.isdisjoint(leaving):
            return self._evict(leaving)
        if idle := self._idle(now, waiting, in_use):
            return self._evict(idle)
        wanted = self._next_to_load(waiting)
        if wanted is None:
            return NO_CHANGE
        return self._make_room(wanted, now, waiting[wanted], in_use, free_bytes)

    def load_finished(self, now: float) -> None:
        """Record that the model that was being loaded is in memory."""
        assert self.loading is not None
        self._usage[self.loading] = _Usage(now, now)
        for name in self.entries[self.loading].needs:
            self._usage[name].used_at = now
        self.loading = None

    def load_failed(self) -> None:
        """Record that the model that was being loaded could not be."""
        self.loading = None

    # -- decisions ------------------------------------------------------------------------------

    def _next_to_load(self, waiting: Mapping[str, float]) -> str | None:
        """Return a resident model, else the model that has been waited for longest."""
        absent = [name for name in self.entries if name in waiting and not self.is_ready(name)]
        absent.sort(key=lambda name: (not self.entries[name].resident, -waiting[name]))
        return next(iter(absent), None)

    def _make_room(
        self, wanted: str, now: float, waited_s: float, in_use: Set[str], free_bytes: float
    ) -> Plan:
        absent = [name for name in self.required(wanted) if name not in self._usage]
        size = self._size(absent)
        missing = max(self.used_bytes + size - self.budget, size - free_bytes)
        evictable = self._evictable(wanted)
        idle = [n for n in evictable if n not in in_use and not self._awaits_first_job(n, now)]
        evicted, still_missing = self._select(idle, missing)
        # Free memory is an estimate: with nothing else left to evict, the load is tried anyway.
        nothing_left = idle == evictable and self._fits(size - self._size(evicted))
        if still_missing <= 0 or nothing_left:
            self.loading = absent[0]
            return Plan(self._evict(evicted).evict, self.loading)
        if waited_s >= self.patience_s:
            due = [n for n in evictable if n in in_use and self._loaded_long_ago(n, now)]
            due.sort(key=lambda n: self._usage[n].loaded_at)
            self.draining |= frozenset([*evicted, *self._select(due, still_missing)[0]])
        return NO_CHANGE

    def _awaits_first_job(self, name: str, now: float) -> bool:
        return not self._usage[name].had_a_job and not self._loaded_long_ago(name, now)

    def _loaded_long_ago(self, name: str, now: float) -> bool:
        return self._usage[name].loaded_at + self.patience_s <= now

    def _select(self, candidates: Sequence[str], missing: float) -> tuple[list[str], float]:
        """Return as many candidates as free `missing` bytes, and the bytes still missing then.

        A model is preceded by those that need it.
        """
        selected: list[str] = []
        for name in candidates:
            if missing <= 0:
                break
            for one in (*self._dependents(name), name):
                if one not in selected:
                    selected.append(one)
                    missing -= self.entries[one].size
        return selected, missing

    def _idle(self, now: float, waiting: Mapping[str, float], in_use: Set[str]) -> list[str]:
        """Return the models that have had no job for their `idle_unload_s`."""
        wanted = {one for name in waiting for one in self.required(name)}
        idle = {
            name
            for name, usage in self._usage.items()
            if name not in in_use and name not in wanted and not self._is_resident(name)
            if now - usage.used_at >= (self.entries[name].idle_unload_s or inf)
        }
        return [name for name in idle if idle.issuperset(self._dependents(name))]

    def _leaving(self, unwanted: Collection[str]) -> list[str]:
        """Return the models of `unwanted` in memory, each after those that need it."""
        leaving: list[str] = []
        for name in unwanted:
            if name in self._usage:
                leaving += [n for n in (*self._dependents(name), name) if n not in leaving]
        return leaving

    def _evict(self, names: Sequence[str]) -> Plan:
        for name in names:
            del self._usage[name]
        return Plan(evict=tuple(names))

    def _evictable(self, wanted: str) -> list[str]:
        """Return the models that may go for `wanted`, the least recently used first.

        Of those used at the same time, a model precedes the models that it needs.
        """
        names = [n for n in self._usage if n not in self.required(wanted)]
        names = [n for n in names if not self._is_resident(n)]
        return sorted(names, key=lambda n: (self._usage[n].used_at, not self.entries[n].needs))

    # -- relations and sizes --------------------------------------------------------------------

    def _dependents(self, name: str) -> list[str]:
        """Return the models in memory that need `name`."""
        return [n for n in self._usage if name in self.entries[n].needs]

    def _is_resident(self, name: str) -> bool:
        """Return True if the model, or one that needs it, is resident."""
        return any(name in self.required(resident) for resident in self.residents)

    def _fits(self, more: float) -> bool:
        return self.used_bytes + more <= self.budget

    def _size(self, names: Collection[str]) -> float:
        return sum(self.entries[name].size for name in names)
