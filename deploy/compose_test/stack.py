"""The compose file under podman: start and stop a copy of the project with a complete .env.

One folder contains everything: podman's storage and settings, the copy, the secrets. Other podman
containers on the machine are not affected.
"""

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "darkroom-compose-test"

# Limits must not exceed those of the machine, and there is no systemd.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_backend = "netavark"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "/run/{project}"
"""


class Stack:
    """The project's containers. `settings` replace lines of .env.example."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.project = folder / "project"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder, project=PROJECT))
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_FORMAT": "docker",  # the OCI format has no health checks
        }
        _copy_project(self.project)
        (self.project / ".env").write_text(_filled_in(ROOT / ".env.example", settings))

    def make_images(self) -> None:
        """Build replacements for the images that would be pulled, then those of the Dockerfile."""
        images = ROOT / "deploy" / "compose_test" / "images.sh"
        subprocess.run([images, self.folder], env=self._environment, check=True)
        self._compose("--podman-build-args=--network=host", "build", "api", "worker")

    def up(self, *services: str) -> None:
        self._compose("up", "--detach", *services)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._compose("down", "--volumes", "--timeout", "60")

    def containers(self, service: str) -> list[str]:
        """Return the names of the running containers of `service`."""
        label = f"label=com.docker.compose.service={service}"
        listed = self.podman("ps", "--filter", label, "--format", "{{.Names}}")
        return sorted(listed.split())

    def logs(self) -> str:
        """Return the last lines of every container's output."""
        names = self.podman("ps", "--all", "--format", "{{.Names}}").split()
        return "\n".join(f"--- {name}\n{self._output('logs', '--tail=40', name)}" for name in names)

    def podman(self, *arguments: str) -> str:
        """Run podman and return its output. Raises if it fails."""
        done = self._run(["podman", *arguments], stderr=subprocess.DEVNULL)
        done.check_returncode()
        return done.stdout

    def succeeds(self, *arguments: str) -> bool:
        """Run podman and return True if it succeeds."""
        return self._run(["podman", *arguments], stderr=subprocess.DEVNULL).returncode == 0

    def _output(self, *arguments: str) -> str:
        return self._run(["podman", *arguments], stderr=subprocess.STDOUT).stdout

    def _compose(self, *arguments: str) -> None:
        program = ROOT / ".venv" / "bin" / "podman-compose"
        command = [str(program), "--project-name", PROJECT, *arguments]
        done = self._run(command, stderr=subprocess.STDOUT)
        (self.folder / "compose.log").write_text(done.stdout)
        if done.returncode != 0:
            raise RuntimeError(f"podman-compose {' '.join(arguments)} failed:\n{done.stdout}")

    def _run(self, command: list[str], stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.project,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )


def free_port() -> str:
    """Return a TCP port of the loopback that was free just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def secret() -> str:
    return secrets.token_hex(24)


def _copy_project(target: Path) -> None:
    """Copy the files of the repository as they are now, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    shutil.rmtree(target, ignore_errors=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _filled_in(example: Path, settings: dict[str, str]) -> str:
    """Return the text of `example` with `settings` in place of the lines of those names."""
    lines, missing = [], dict(settings)
    for line in example.read_text().splitlines():
        name = line.lstrip("#").partition("=")[0]
        lines.append(f"{name}={missing.pop(name)}" if name in missing else line)
    if missing:
        raise KeyError(f".env.example does not contain {', '.join(missing)}")
    return "\n".join(lines) + "\n"
