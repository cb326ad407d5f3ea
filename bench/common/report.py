"""Arguments, tables and JSON results of all benchmarks.

A benchmark prints its tables, then the JSON as its last line. A full run also writes that line to
`bench/results/<name>-<label>.json`; a smoke run only shows that the benchmark works.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "results"
WIDTH = 110  # columns of a table, independent of the terminal
CPU_INFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "diffusers", "openvino")


def arguments(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench {name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--smoke", action="store_true", help="quick run to test the benchmark")
    parser.add_argument(
        "--label",
        type=_label,
        help="name of the stored result (default: cpu or cuda; none with --smoke)",
    )
    return parser


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a file")
    return text


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a table; floats have three significant digits, missing values are a dash."""
    built = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        built.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        built.add_row(*map(_cell, row))
    return built


def publish(
    name: str,
    given: argparse.Namespace,
    device: str,
    tables: Iterable[Table],
    figures: Mapping[str, Any],
) -> None:
    """Print the tables, then all figures as JSON; store the JSON after a full run."""
    console = Console(width=WIDTH)
    for each in tables:
        console.print(each)
    line = json.dumps({"benchmark": name, **environment(device), **figures})
    label = given.label or (None if given.smoke else device.partition(":")[0])
    if label:
        (RESULTS / f"{name}-{label}.json").write_text(line + "\n")
    print(line, flush=True)


def environment(device: str) -> dict[str, Any]:
    """Return time, hardware and package versions, without importing the packages."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def _versions() -> Iterable[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _cpu_name() -> str:
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case _:
            return str(value)
