"""Batch sizes: a graph is recorded for a few of them, and a batch is split into those. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROWS = (1, 2, 4, 8, 12, 16, 24, 32)


def plan(rows: int, seconds: Mapping[int, float]) -> list[int]:
    """Return the sizes whose graphs together take `rows` rows in the least time, largest first.

    `seconds` holds the time of a replay of each recorded size. Where times are equal, fewer
    replays. Raises ValueError for no rows or no sizes.
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
    """Return the smallest size with at least `share` of the best throughput in rows per second."""
    best = max(size / time for size, time in seconds.items())
    return min(size for size, time in seconds.items() if size / time >= share * best)


def choose_group(groups: Sequence[frozenset[int]], seconds: Mapping[int, float]) -> frozenset[int]:
    """Return the best of `groups` of sizes whose rows have the same bits.

    It must be fast for large batches, so it must contain a `sufficient` size, if any group does; of
    those, the one with the smallest size, because a single image has to fill that one.
    """
    full = sufficient(seconds)
    fast = [group for group in groups if max(group) >= full]
    return min(fast or groups, key=lambda group: (min(group), -len(group)))
