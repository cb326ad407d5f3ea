"""`darkroom models add`: fetch if need be, convert in a child process, check, put in its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.checkpoints import errors
from models.checkpoints.convert.conversion import FLAT
from models.checkpoints.convert.limits import Limits
from models.checkpoints.convert.model_store import ModelsHome, name_from
from models.checkpoints.detect.kinds import Kind
from models.checkpoints.detect.layout import write_json
from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.hub import fetch_source, fetch_tokenizer
from models.checkpoints.readers.headers import read_header

_ROOT = Path(__file__).resolve().parents[3]
_WRITTEN = (".safetensors", ".json", ".txt", ".model")
_MAX_LINE = 4 << 20

# Hears the share done, 0 to 1, and what is being done.
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Added:
    """What was added, and where it is."""

    kind: Kind
    name: str
    title: str
    place: Path
    notes: tuple[str, ...]


def add(
    source: str,
    home: ModelsHome,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    tokenizer: str | None = None,
    report: Report = lambda share, what: None,
    judge: Callable[[Path], None] = lambda made: None,
) -> Added:
    """Add what is at `source`, a file, a folder or a hub id (also owner/name/file), to `home`.

    `judge` sees what was made, a folder or a safetensors file, before it is put in its place, and
    raises if it is unsound.

    Raises CheckpointError of every kind; then nothing was added.
    """
    path, within = _locate(source)
    vocabulary = None if tokenizer is None else _tokenizer(tokenizer)
    name = name or name_from(source)
    home.root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=home.root))
    try:
        made = convert(path, staging, kind=kind, tokenizer=vocabulary, within=within, report=report)
        _check(staging)
        flat = staging / FLAT
        judge(flat if flat.is_file() else staging)
        place = _put(staging, home, made, name, source)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Added(made["kind"], name, made["title"], place, tuple(made["notes"]))


def _locate(source: str) -> tuple[Path, Path | None]:
    """Where the source is, fetched if it is on the hub, and how far links in it may lead."""
    path = Path(source).expanduser()
    if path.exists():
        return path.absolute(), None
    if source.count("/") < 1 or source.startswith((".", "/", "~")):
        raise CheckpointMissing(f"{source!r} is neither a file, a folder, nor a hub id")
    fetched = fetch_source(source)
    if fetched.is_file():
        return fetched, None
    # In the hub's cache, snapshots are links to blobs beside them.
    return fetched, fetched.parents[1]


def _tokenizer(said: str) -> Path:
    folder = Path(said).expanduser()
    return folder.resolve() if folder.is_dir() else fetch_tokenizer(said)


def convert(
    source: Path,
    target: Path,
    *,
    kind: Kind | None = None,
    tokenizer: Path | None = None,
    within: Path | None = None,
    limits: Limits | None = None,
    report: Report = lambda share, what: None,
) -> dict[str, Any]:
    """Convert `source` into the empty folder `target` in a limited child process.

    Returns what the child says it made: kind, title, hashes, notes.

    Raises the CheckpointError that the child refused with, or Malformed if it did not live to.
    """
    limits = limits or Limits.for_input(_size(source))
    job = {
        "source": str(source.absolute()),
        "target": str(target.absolute()),  # the child is at home in it
        "kind": kind,
        "tokenizer": None if tokenizer is None else str(tokenizer),
        "within": None if within is None else str(within),
        "limits": asdict(limits),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "models.checkpoints.convert.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        cwd=target,
        text=True,
    )
    timer = threading.Timer(limits.wall_s, child.kill)
    timer.start()
    with child:  # which closes its pipes
        try:
            said = _listen(child, json.dumps(job), report)
        finally:
            timer.cancel()
            child.kill()
            child.wait()
        return _result(source, said, child)


def _environment() -> dict[str, str]:
    """What the child needs to start, and none of the secrets that this process may have."""
    kept = {
        key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ
    }
    # One thread: each more would take its stack from the limit.
    return {**kept, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _listen(child: subprocess.Popen[str], job: str, report: Report) -> dict[str, Any]:
    """The last line the child said, after telling `report` of the others."""
    assert child.stdin is not None
    assert child.stdout is not None
    last: dict[str, Any] = {}
    try:
        child.stdin.write(job + "\n")
        child.stdin.close()
        while line := child.stdout.readline(_MAX_LINE):
            last = json.loads(line)
            if "done" in last:
                report(min(last["done"] / max(last["total"], 1), 1.0), last["what"])
    except (BrokenPipeError, json.JSONDecodeError):
        return {}
    child.wait()
    return last


def _result(source: Path, said: dict[str, Any], child: subprocess.Popen[str]) -> dict[str, Any]:
    if "refused" in said:
        raise _refusal(source, said)
    if "kind" not in said or child.returncode != 0:
        assert child.stderr is not None
        last = child.stderr.read()[-2000:].strip().splitlines()[-1:]
        raise Malformed(
            f"{source.name}: reading it ended with status {child.returncode}"
            + (f" ({last[0]})" if last else "")
        )
    return said


def _refusal(source: Path, said: dict[str, Any]) -> CheckpointError:
    kind = getattr(errors, str(said.get("error")), Malformed)
    why = said["refused"] if source.name in said["refused"] else f"{source.name}: {said['refused']}"
    plain = (errors.CheckpointMissing, errors.UnknownFamily, errors.Malformed)
    return kind(why) if kind in plain else CheckpointError(why)


def _size(source: Path) -> int:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())


def _check(staging: Path) -> None:
    """The child wrote nothing but what it was asked for."""
    for path in staging.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.suffix in _WRITTEN):
            raise Malformed(f"converting it wrote {path.name}, which does not belong there")
        if path.suffix == ".safetensors":
            read_header(path)


def _put(staging: Path, home: ModelsHome, made: dict[str, Any], name: str, source: str) -> Path:
    """Into its place in one move, with its manifest."""
    kind: Kind = made["kind"]
    place = home.place(kind, name)
    if place.exists():
        raise CheckpointError(f"there is a {kind} {name!r} already: choose another --name")
    place.parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        "name": name,
        "kind": kind,
        "title": made["title"],
        "source": source,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": made["hashes"],
    }
    if (staging / FLAT).is_file():
        manifest["sha256"] = {place.name: made["hashes"][FLAT]}
        os.replace(staging / FLAT, place)
        write_json(home.manifest(kind, name), manifest)
    else:
        write_json(staging / "manifest.json", manifest)
        staging.chmod(0o755)
        os.rename(staging, place)
    return place
