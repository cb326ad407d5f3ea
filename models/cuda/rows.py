"""Batch sizes: a graph is recorded for a few of them, and a batch is made up of those. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROWS = (1, 2, 4, 8, 12, 16, 24, 32)


def plan(rows: int, seconds: Mapping[int, float]) -> list[int]:
    """The sizes whose graphs together take at least `rows` rows in the least time, largest first.

    `seconds` says what a replay of each recorded size takes. Where times are equal, fewer replays.
    """
    if rows < 1 or not seconds:
        raise ValueError(f"a plan for {rows} rows from the sizes {sorted(seconds)}")
    best: list[tuple[float, int, list[int]]] = [(0.0, 0, [])]
    for count in range(1, rows + 1):
        options = []
        for size, time in seconds.items():
            before, replays, sizes = best[max(0, count - size)]
            options.append((before + time, replays + 1, [*sizes, size]))
        best.append(min(options, key=lambda option: option[:2]))
    return sorted(best[rows][2], reverse=True)


def sufficient(seconds: Mapping[int, float], share: float = 0.9) -> int:
    """The smallest size that draws at least `share` of the rows a second that the best one does."""
    best = max(size / time for size, time in seconds.items())
    return min(size for size, time in seconds.items() if size / time >= share * best)


def choose_group(groups: Sequence[frozenset[int]], seconds: Mapping[int, float]) -> frozenset[int]:
    """Of `groups` of sizes whose rows have the same bits, the one to draw with.

    It must be fast in company, so it must hold a `sufficient` size, if any group does; of those,
    the one with the smallest size, because a picture alone has to fill that one.
    """
    full = sufficient(seconds)
    fast = [group for group in groups if max(group) >= full]
    return min(fast or groups, key=lambda group: (min(group), -len(group)))
