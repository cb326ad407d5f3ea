"""Predicts the time and memory of steps: measured at startup, refined by every step.

Pure: no torch, no clock, no disk. A group is a tuple that ends in the height and width of its
latents; their product, the cells, is the measure of the work of a row. The measurements of one size
predict those of others: a row of four times the cells counts as four rows, until steps of that size
have been measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import inf

LEAST_ROWS = 2  # of one guided image
GAIN = 0.03  # a larger batch that is faster by a smaller share, per row, only adds latency
LONGEST_STEP_S = 1.0  # for which an urgent image may have to wait
PACE_WEIGHT = 0.3  # of a new step, in the machine's current pace
POINT_WEIGHT = 0.005  # of the rest, in the time of steps of that many rows
OUTLIER = 4.0  # times the prediction: more than the step was measured
RECOVERY = 1.001  # per full batch that fits: after some 700 of them the bound has doubled

Group = tuple[int, ...]


@dataclass(frozen=True)
class Measurement:
    """Measured step times of one group, rows -> seconds, and a step's bytes per row and cell.

    The bytes are 0 if they were not measured.
    """

    group: Group
    seconds: Mapping[int, float]
    bytes_per_cell: float = 0.0


# Without measurements many rows count as few, so that batches are as large as allowed.
UNMEASURED = Measurement((1, 1), {1: 0.05, 1 << 40: 0.05})


class StepProfile:
    """Predicts steps, and bounds batches: a `worker.engine.batcher.Limits` that learns."""

    def __init__(self, measured: Measurement, most_rows: int, memory_bytes: float = inf) -> None:
        """`most_rows` bounds every batch; `memory_bytes` is what steps may use.

        Raises ValueError for bounds below a guided image.
        """
        if most_rows < LEAST_ROWS:
            raise ValueError(f"most_rows is {most_rows}, but a guided image takes {LEAST_ROWS}")
        self._measured = measured
        self._grid = row_counts(most_rows)
        self._curves: dict[Group, _Curve] = {}
        self._memory_cells = inf
        self.may_use(memory_bytes)
        self._safe_cells = inf  # lowered when memory runs out

    def may_use(self, memory_bytes: float) -> None:
        """Set the memory of steps, after models were loaded or evicted."""
        if self._measured.bytes_per_cell > 0:
            self._memory_cells = memory_bytes / self._measured.bytes_per_cell

    def step_seconds(self, group: Hashable, rows: int) -> float:
        """Predict the seconds of a step of `rows` rows at the current pace."""
        curve = self._curve(group)
        return curve.pace * curve.at(rows)

    def best_rows(self, group: Hashable) -> int:
        """Return the fewest rows whose time per row is within `GAIN` of the best.

        Only steps of at most `LONGEST_STEP_S` count, or of the time of one guided image.
        """
        return self._curve(group).best_rows

    def cap(self, group: Hashable) -> int:
        """Return the rows a batch may have: the best number that memory allows, but at least 1."""
        cells = min(self._memory_cells, self._safe_cells)
        rows = self.best_rows(group)
        return rows if rows * _cells(group) <= cells else max(1, int(cells / _cells(group)))

    def fits(self, group: Hashable, rows: int) -> bool:
        """Return True if a step of `rows` rows fits into memory by the measurements."""
        return rows * _cells(group) <= self._memory_cells

    def observe(self, group: Hashable, rows: int, seconds: float) -> None:
        """Learn from a step of `rows` rows that took `seconds`."""
        if rows >= self.cap(group):
            self._safe_cells *= RECOVERY
        self._curve(group).observe(rows, seconds)

    def ran_out_of_memory(self, group: Hashable, rows: int) -> None:
        """Halve the bound after a step of `rows` rows that did not fit, for groups of all sizes."""
        self._safe_cells = min(self._safe_cells, rows * _cells(group) / 2)

    def _curve(self, group: Hashable) -> _Curve:
        assert isinstance(group, tuple)
        if group not in self._curves:
            like = _cells(group) / _cells(self._measured.group)
            known = _Points(dict(self._measured.seconds))
            rows = {*self._grid, *self._measured.seconds} if like == 1 else self._grid
            points = _Points({n: known.at(n * like) for n in rows})
            self._curves[group] = _Curve(points, self._grid)
        return self._curves[group]


def row_counts(most_rows: int) -> tuple[int, ...]:
    """Return the sizes of batches to measure and compare: powers of two, and the largest."""
    powers = [1 << n for n in range(1, most_rows.bit_length()) if 1 << n <= most_rows]
    return (*powers,) if powers[-1] == most_rows else (*powers, most_rows)


@dataclass
class _Points:
    """Seconds by rows, interpolated linearly, and extrapolated beyond the largest.

    Every further row costs at least half of the average: noise makes no line go down, and larger
    batches are tried where only the smallest was measured.
    """

    seconds: dict[int, float]

    def at(self, rows: float) -> float:
        known = sorted(self.seconds)
        if rows <= known[0]:
            return self.seconds[known[0]]
        if rows >= known[-1]:
            return self.seconds[known[-1]] + self._row_seconds(known) * (rows - known[-1])
        after = bisect_left(known, rows)
        left, right = known[after - 1], known[after]
        share = (rows - left) / (right - left)
        return self.seconds[left] + share * (self.seconds[right] - self.seconds[left])

    def _row_seconds(self, known: list[int]) -> float:
        """Return the cost of a row beyond the largest batch known."""
        last = self.seconds[known[-1]]
        least = last / known[-1] / 2
        if len(known) == 1:
            return least
        return max(least, (last - self.seconds[known[-2]]) / (known[-1] - known[-2]))


@dataclass
class _Curve:
    """Step times of one group.

    The pace is a factor on all of them: a busy machine slows every step down, which must not count
    against the batch sizes that happen to run then.
    """

    points: _Points
    grid: tuple[int, ...]
    pace: float = 1.0
    best_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.best_rows = self._best_rows()

    def at(self, rows: int) -> float:
        """Return the seconds of a step at a pace of 1."""
        return self.points.at(rows)

    def observe(self, rows: int, seconds: float) -> None:
        usual = self.at(rows)
        ratio = min(seconds / (self.pace * usual), OUTLIER)
        change = 1 + PACE_WEIGHT * (ratio - 1)
        self.pace *= change
        self.points.seconds[rows] = usual * (1 + POINT_WEIGHT * (ratio / change - 1))
        self.best_rows = self._best_rows()

    def _best_rows(self) -> int:
        longest_s = max(LONGEST_STEP_S, self.pace * self.at(LEAST_ROWS))
        quick = [n for n in self.grid if self.pace * self.at(n) <= longest_s]
        per_row = {n: self.at(n) / n for n in quick}
        return next(n for n in quick if per_row[n] <= (1 + GAIN) * min(per_row.values()))


def _cells(group: Hashable) -> int:
    assert isinstance(group, tuple)
    height, width = group[-2:]
    return height * width
