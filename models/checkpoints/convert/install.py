"""Installation of checkpoints in the model store, for `darkroom models add`.

The source is fetched if needed, converted in a child process, checked, and moved into place.
"""

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
from models.checkpoints.convert.conversion import FLAT, Conversion
from models.checkpoints.convert.limits import ChildLimits
from models.checkpoints.convert.model_store import ModelStore, default_name
from models.checkpoints.detect.kinds import Kind
from models.checkpoints.detect.model_folder import write_json
from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.hub import fetch_source, fetch_tokenizer
from models.checkpoints.readers.headers import read_header

_ROOT = Path(__file__).resolve().parents[3]
_WRITTEN = (".safetensors", ".json", ".txt", ".model")
_MAX_LINE = 4 << 20

# Called with the share done, 0 to 1, and the name of the component being written.
InstallProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class Installed:
    """An installed checkpoint and its path in the store."""

    kind: Kind
    name: str
    title: str
    path: Path
    notes: tuple[str, ...]


def install(
    source: str,
    store: ModelStore,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    tokenizer: str | None = None,
    report: InstallProgress = lambda share, what: None,
    validate: Callable[[Path], None] = lambda converted: None,
) -> Installed:
    """Install `source`, a file, a folder or a hub id (also owner/name/file), in `store`.

    validate: called with the converted folder or safetensors file before it is moved into place;
    it raises CheckpointError to refuse it.

    Raises CheckpointError and all its subclasses; then nothing was installed.
    """
    path, within = _locate(source)
    vocabulary = None if tokenizer is None else _tokenizer(tokenizer)
    name = name or default_name(source)
    store.root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=store.root))
    try:
        result = convert(Conversion(path, staging, kind, vocabulary, within), report=report)
        _check_files(staging)
        flat = staging / FLAT
        validate(flat if flat.is_file() else staging)
        installed = _move_into_place(staging, store, result, name, source)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Installed(result["kind"], name, result["title"], installed, tuple(result["notes"]))


def _locate(source: str) -> tuple[Path, Path | None]:
    """Return the path of the source, fetched if it is on the hub, and the root for links in it."""
    path = Path(source).expanduser()
    if path.exists():
        return path.absolute(), None
    if source.count("/") < 1 or source.startswith((".", "/", "~")):
        raise CheckpointMissing(f"{source!r} is neither a file, a folder, nor a hub id")
    fetched = fetch_source(source)
    if fetched.is_file():
        return fetched, None
    # Snapshots in the hub's cache are links to blobs in a neighbouring folder.
    return fetched, fetched.parents[1]


def _tokenizer(source: str) -> Path:
    folder = Path(source).expanduser()
    return folder.resolve() if folder.is_dir() else fetch_tokenizer(source)


def convert(
    conversion: Conversion,
    limits: ChildLimits | None = None,
    report: InstallProgress = lambda share, what: None,
) -> dict[str, Any]:
    """Run `conversion` in a child process with limits, by default those for the source's size.

    Returns the child's result: kind, title, hashes, notes.

    Raises the CheckpointError that the child sent, or Malformed if it ended without a result.
    """
    limits = limits or ChildLimits.for_input(_size(conversion.source))
    job = json.dumps({**conversion.job(), "limits": asdict(limits)})
    child = _start(conversion.target)
    timer = threading.Timer(limits.wall_s, child.kill)
    timer.start()
    with child:  # which closes its pipes
        try:
            last = _exchange(child, job, report)
        finally:
            timer.cancel()
            child.kill()
            child.wait()
        return _result(conversion.source, last, child)


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "models.checkpoints.convert.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        cwd=folder,
        text=True,
    )


def _environment() -> dict[str, str]:
    """Return the variables that the child needs to start, without this process's secrets."""
    kept = {
        key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ
    }
    # One thread: the stack of each further one counts against the memory limit.
    return {**kept, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _exchange(child: subprocess.Popen[str], job: str, report: InstallProgress) -> dict[str, Any]:
    """Send the job and return the child's last line; the lines before go to `report`."""
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


def _result(source: Path, last: dict[str, Any], child: subprocess.Popen[str]) -> dict[str, Any]:
    if "refused" in last:
        raise _refusal(source, last)
    if "kind" not in last or child.returncode != 0:
        assert child.stderr is not None
        output = child.stderr.read()[-2000:].strip().splitlines()[-1:]
        raise Malformed(
            f"{source.name}: reading it ended with status {child.returncode}"
            + (f" ({output[0]})" if output else "")
        )
    return last


def _refusal(source: Path, last: dict[str, Any]) -> CheckpointError:
    kind = getattr(errors, str(last.get("error")), Malformed)
    reason = last["refused"]
    message = reason if source.name in reason else f"{source.name}: {reason}"
    plain = (errors.CheckpointMissing, errors.UnknownFamily, errors.Malformed)
    return kind(message) if kind in plain else CheckpointError(message)


def _size(source: Path) -> int:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())


def _check_files(staging: Path) -> None:
    """Check that the child wrote only the expected files. Raises Malformed."""
    for path in staging.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.suffix in _WRITTEN):
            raise Malformed(f"converting it wrote {path.name}, which does not belong there")
        if path.suffix == ".safetensors":
            read_header(path)


def _move_into_place(
    staging: Path, store: ModelStore, result: dict[str, Any], name: str, source: str
) -> Path:
    """Move the converted files and their manifest into the store, in one rename."""
    kind: Kind = result["kind"]
    path = store.path(kind, name)
    if path.exists():
        raise CheckpointError(f"there is a {kind} {name!r} already: choose another --name")
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        "name": name,
        "kind": kind,
        "title": result["title"],
        "source": source,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": result["hashes"],
    }
    if (staging / FLAT).is_file():
        manifest["sha256"] = {path.name: result["hashes"][FLAT]}
        os.replace(staging / FLAT, path)
        write_json(store.manifest(kind, name), manifest)
    else:
        write_json(staging / "manifest.json", manifest)
        staging.chmod(0o755)
        os.rename(staging, path)
    return path
