"""Installation of checkpoints in the model store, by `darkroom models add` or by request.

The source is fetched if needed, converted in a child process, checked, and moved into place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.checkpoints.convert.child_process import InstallProgress, convert
from models.checkpoints.convert.conversion import FLAT, Conversion
from models.checkpoints.convert.disk_space import check_space, converted_size
from models.checkpoints.convert.model_store import Installed, ModelStore
from models.checkpoints.detect.kinds import Kind
from models.checkpoints.detect.model_folder import write_json
from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.file_hash import MANIFEST, MANIFEST_KEY, sha256_of
from models.checkpoints.files import os_errors_of, user_path
from models.checkpoints.hub import cache_folder
from models.checkpoints.hub_sources import fetch_safetensors, fetch_source, fetch_tokenizer
from models.checkpoints.names import checked_name, default_name
from models.checkpoints.readers.headers import read_header

_WRITTEN = (".safetensors", ".json", ".txt", ".model")

# Called with the converted folder or safetensors file; it raises CheckpointError to refuse it.
Validate = Callable[[Path], None]

_FETCHED = 0.6  # share of the progress that fetching takes
_STAGING = ".adding-"


def install(
    source: str,
    store: ModelStore,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    tokenizer: str | None = None,
    pools: bool | None = None,
    ema: bool | None = None,
    report: InstallProgress = lambda share, what: None,
    validate: Validate = lambda converted: None,
) -> Installed:
    """Install `source`, a file, a folder or a hub id (also owner/name/file), in `store`.

    pools: whether a ControlNet averages its residuals over the image; None for what its files tell.
    ema: which weights of a model's UNet, see `models.checkpoints.checkpoint.load_component`.
    validate: called before the files are moved into place.

    Raises CheckpointError and all its subclasses; then nothing was installed.
    """
    name = checked_name(name or default_name(source))
    path, within = _locate(source, ema)
    vocabulary = None if tokenizer is None else _tokenizer(tokenizer)
    entry = {"name": name, "source": source}
    with _staging(store) as staging:
        conversion = Conversion(path, staging, kind, vocabulary, within, pools, ema)
        return _install(conversion, store, entry, report, validate)


def install_by_request(
    repository: str,
    store: ModelStore,
    install_id: str,
    *,
    name: str | None,
    kind: Kind | None,
    report: InstallProgress,
    validate: Validate,
) -> Installed:
    """Install the hub's `repository`, whose weights must be safetensors, in `store`.

    The manifest keeps `install_id`. An install with this id that was interrupted, even after its
    files were moved into place, may be repeated.

    Raises CheckpointError and all its subclasses; then nothing was installed.
    """
    name = checked_name(name or default_name(repository))
    for left in store.root.glob(f"{_STAGING}{install_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    if (found := store.installed_by(install_id, name)) is not None:
        return found

    def fetching(done: int, total: int) -> None:
        check_space(cache_folder(), total - done)
        what = f"fetching, {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        report(_FETCHED * min(done / max(total, 1), 1.0), what)

    fetched = fetch_safetensors(repository, fetching)
    entry = {"name": name, "source": repository, "install": install_id}
    with _staging(store, f"{install_id}-") as staging:
        conversion = Conversion(fetched, staging, kind, within=_links_root(fetched))
        return _install(
            conversion,
            store,
            entry,
            lambda share, what: report(_FETCHED + (1 - _FETCHED) * share, what),
            validate,
        )


def _install(
    conversion: Conversion,
    store: ModelStore,
    entry: dict[str, str],
    report: InstallProgress,
    validate: Validate,
) -> Installed:
    """Convert the files into the staging folder, check them, and move them into place."""
    staging = conversion.target
    with os_errors_of(conversion.source):
        check_space(staging, converted_size(conversion.source))
    result = convert(conversion, report=report)
    _check_files(staging)
    flat = staging / FLAT
    validate(flat if flat.is_file() else staging)
    if conversion.source.is_file():
        with os_errors_of(conversion.source):
            entry = {**entry, MANIFEST_KEY: sha256_of(conversion.source)}
    path = _move_into_place(staging, store, result, entry)
    return Installed(result["kind"], entry["name"], result["title"], path, tuple(result["notes"]))


@contextmanager
def _staging(store: ModelStore, part: str = "") -> Iterator[Path]:
    """Make a folder in the store for files that are not installed yet, and remove it at the end."""
    store.root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{part}", dir=store.root))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _locate(source: str, ema: bool | None) -> tuple[Path, Path | None]:
    """Return the path of the source, fetched if it is on the hub, and the root for links in it."""
    with os_errors_of(source):
        path = user_path(source)
        if path.exists():
            return path.absolute(), None
    if source.count("/") < 1 or source.startswith((".", "/", "~")):
        raise CheckpointMissing(f"{source!r} is neither a file, a folder, nor a hub id")
    fetched = fetch_source(source, ema)
    return fetched, _links_root(fetched)


def _links_root(fetched: Path) -> Path | None:
    """Return the folder that links in a fetched folder may lead to.

    Snapshots in the hub's cache are links to blobs in a neighbouring folder.
    """
    return None if fetched.is_file() else fetched.parents[1]


def _tokenizer(source: str) -> Path:
    folder = user_path(source)
    return folder.resolve() if folder.is_dir() else fetch_tokenizer(source)


def _check_files(staging: Path) -> None:
    """Check that the child wrote only the expected files. Raises Malformed."""
    for path in staging.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.suffix in _WRITTEN):
            raise Malformed(f"converting it wrote {path.name}, which does not belong there")
        if path.suffix == ".safetensors":
            read_header(path)


def _move_into_place(
    staging: Path, store: ModelStore, result: dict[str, Any], entry: dict[str, str]
) -> Path:
    """Move the converted files and their manifest, which begins with `entry`, into the store.

    The files appear in one rename.
    """
    kind: Kind = result["kind"]
    name = entry["name"]
    path = store.path(kind, name)
    if path.exists():
        raise CheckpointError(f"there is a {kind} {name!r} already: choose another --name")
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        **entry,
        "kind": kind,
        "title": result["title"],
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": result["hashes"],
    }
    if (staging / FLAT).is_file():
        manifest["sha256"] = {path.name: result["hashes"][FLAT]}
        write_json(store.manifest(kind, name), manifest)
        os.replace(staging / FLAT, path)
    else:
        write_json(staging / MANIFEST, manifest)
        staging.chmod(0o755)
        os.rename(staging, path)
    return path
