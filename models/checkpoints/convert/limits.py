"""Resource limits of the child process that converts files."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

_MEMORY = 1 << 30  # in addition to the file itself, which is mapped
_SECONDS = 120
_BYTES_A_SECOND = 20 << 20  # of reading, hashing and writing; slow disks are several times faster


@dataclass(frozen=True)
class ChildLimits:
    """Limits of address space, CPU and wall time in seconds, and the size of any file written."""

    memory_bytes: int
    cpu_s: int
    wall_s: int
    file_bytes: int

    @classmethod
    def for_input(cls, size: int) -> ChildLimits:
        """Return the limits for files of `size` bytes together.

        A Paddle pickle may hold its weights as text, which takes twice the file in memory.
        """
        seconds = _SECONDS + size // _BYTES_A_SECOND
        return cls(_MEMORY + 4 * size, seconds, 3 * seconds, 4 * size + (16 << 20))

    def impose(self) -> None:
        """Apply the limits to this process for ever: no core file, few files, no processes too."""
        _lower(resource.RLIMIT_AS, self.memory_bytes)
        _lower(resource.RLIMIT_CPU, self.cpu_s)
        _lower(resource.RLIMIT_FSIZE, self.file_bytes)
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_NOFILE, 64)
        if os.geteuid() != 0:
            _lower(resource.RLIMIT_NPROC, 0)


def _lower(what: int, to: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = to if hard == resource.RLIM_INFINITY else min(to, hard)
    resource.setrlimit(what, (bound, bound))
