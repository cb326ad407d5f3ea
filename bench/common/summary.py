"""Stored results of one machine as tables in Markdown.

    python -m bench.common.summary h200 > bench/results/h200.md

The input is `bench/results/<machine>-*.json`. Every list of flat records in a result becomes a
table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.report import RESULTS


def summary(machine: str, results: Path = RESULTS) -> str:
    """Return the results of `machine` as Markdown.

    Raises:
        FileNotFoundError: there are no results of `machine`.
    """
    files = sorted(results.glob(f"{machine}-*.json"))
    if not files:
        raise FileNotFoundError(f"{results} has no {machine}-*.json")
    parts = [f"# Measured on: {machine}"]
    for file in files:
        result: dict[str, Any] = json.loads(file.read_text())
        packages = ", ".join(f"{name} {number}" for name, number in result["packages"].items())
        parts.append(f"## {file.stem.removeprefix(f'{machine}-')}")
        parts.append(f"{result['device']}, {packages}, {result['at']}. {_settings(result)}".strip())
        parts += [_table(key, records) for key, records in _records(result)]
    return "\n\n".join(parts) + "\n"


def _settings(result: Mapping[str, Any]) -> str:
    """Return the settings of the run: the plain values that do not describe the machine."""
    known = {"benchmark", "at", "device", "cpu", "cores", "python", "packages"}
    plain = {k: v for k, v in result.items() if k not in known and isinstance(v, str | int | float)}
    return "; ".join(f"{key} {_cell(value)}" for key, value in plain.items())


def _records(result: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    for key, value in result.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield key, value


def _table(title: str, records: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for record in records for key in record))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cell(r.get(c)) for c in columns)} |" for r in records]
    return "\n".join([f"{title}:", "", *lines])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.common.summary", description=__doc__)
    parser.add_argument("machine")
    print(summary(parser.parse_args().machine), end="")


if __name__ == "__main__":
    main()
