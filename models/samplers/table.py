"""A sampler as a table of coefficients.

With the network's output given, one step of every sampler here is an affine map of the current x,
the latest outputs and fresh noise. A table holds those maps, one row per evaluation of the network,
in float64. Running a table needs no knowledge of its sampler:

    x       = start_signal * z0 + start_noise * initial_noise
    for each row:
        output  = network(input_scale * x, timestep)
        d       = predict_x * x + predict_output * output     # pushed on the front of the history
        x       = keep_x * x + sum_k history[k] * d_k + noise * fresh_noise
        # inpainting, where the image is known: x = known_signal * z0 + known_noise * initial_noise

z0 are the scaled latents of the input image; initial_noise and fresh_noise are unit normal. A row
that undoes the one before it also removes that row's noise: see `carried_noise`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from models.samplers.noise_schedule import FloatArray, Level

# The number of predictions that a row can use, its own first. Four-step Adams-Bashforth needs four,
# and PLMS evaluates its second level twice, which puts one unused prediction in between.
HISTORY = 5


CLEAN = Level(signal=1.0, noise=0.0)
PURE_NOISE = Level(signal=0.0, noise=1.0)


@dataclass(frozen=True)
class Row:
    """Coefficients of one evaluation; the names are those of the table's columns.

    `history` may be shorter than HISTORY: missing predictions have weight 0. `carried_noise` is the
    weight in fresh_noise of the noise of the row before; this row's own noise has weight 1.
    """

    timestep: float
    keep_x: float
    history: tuple[float, ...]
    known: Level
    input_scale: float = 1.0
    predict_x: float = 0.0
    predict_output: float = 1.0
    noise: float = 0.0
    carried_noise: float = 0.0


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """The coefficients of a sampler. Columns are read-only float64.

    All are (rows,) except `history`, (rows, HISTORY): weights on d_now, d_-1, d_-2, ... `timestep`
    is the network's input, and not always a whole number: in [0, T - 1] for levels of betas, in
    (0, T] for a flow, and ln(sigma) / 4 for EDM's.
    """

    start_signal: float
    start_noise: float
    timestep: FloatArray
    input_scale: FloatArray
    predict_x: FloatArray
    predict_output: FloatArray
    keep_x: FloatArray
    history: FloatArray
    noise: FloatArray
    carried_noise: FloatArray
    known_signal: FloatArray
    known_noise: FloatArray

    @classmethod
    def from_rows(cls, start: Level, rows: Sequence[Row]) -> Self:
        padded = [row.history + (0.0,) * (HISTORY - len(row.history)) for row in rows]
        return cls(
            start_signal=float(start.signal),
            start_noise=float(start.noise),
            timestep=_column([row.timestep for row in rows]),
            input_scale=_column([row.input_scale for row in rows]),
            predict_x=_column([row.predict_x for row in rows]),
            predict_output=_column([row.predict_output for row in rows]),
            keep_x=_column([row.keep_x for row in rows]),
            history=_column(padded),
            noise=_column([row.noise for row in rows]),
            carried_noise=_column([row.carried_noise for row in rows]),
            known_signal=_column([row.known.signal for row in rows]),
            known_noise=_column([row.known.noise for row in rows]),
        )

    def __len__(self) -> int:
        """Return the number of evaluations of the network."""
        return len(self.timestep)

    def first(self, rows: int) -> Self:
        """Return the table of the first `rows` rows."""
        columns: dict[str, Any] = {
            name: value[:rows]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **columns)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, from which `from_dict` restores the same numbers."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        def read(value: float | list[Any]) -> float | FloatArray:
            return _column(value) if isinstance(value, list) else value

        values: dict[str, Any] = {field.name: read(record[field.name]) for field in fields(cls)}
        return cls(**values)


def _column(values: Sequence[float] | Sequence[Sequence[float]]) -> FloatArray:
    column = np.array(values, dtype=np.float64)
    column.setflags(write=False)
    return column


def start(table: SamplerTable, z0: FloatArray, initial_noise: FloatArray) -> FloatArray:
    """Return x before the first row, of any shape; z0 has no effect if the start is pure noise."""
    return table.start_signal * z0 + table.start_noise * initial_noise


def apply(
    table: SamplerTable,
    row: int,
    x: FloatArray,
    output: FloatArray,
    history: tuple[FloatArray, ...],
    fresh_noise: FloatArray,
) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Apply one row: (x, history) before -> (x, history) after. All arrays have the shape of x.

    `output` is the network's output for (input_scale * x, timestep); `history` holds the earlier
    predictions, latest first, and is empty before row 0.
    """
    prediction = table.predict_x[row] * x + table.predict_output[row] * output
    history = (prediction, *history)[:HISTORY]
    x = table.keep_x[row] * x + table.noise[row] * fresh_noise
    for weight, past in zip(table.history[row], history, strict=False):
        x = x + weight * past
    return x, history


def known(table: SamplerTable, row: int, z0: FloatArray, initial_noise: FloatArray) -> FloatArray:
    """Return the known region of an inpainted image after this row."""
    return table.known_signal[row] * z0 + table.known_noise[row] * initial_noise
