"""What the process that reads strange files may use."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

_MEMORY = 1 << 30  # beside the file itself, which is mapped
_SECONDS = 120
_BYTES_A_SECOND = 20 << 20  # of reading, hashing and writing; a slow disk does several times that


@dataclass(frozen=True)
class Limits:
    """memory_bytes of address space, cpu_s and wall_s seconds, file_bytes of any file written."""

    memory_bytes: int
    cpu_s: int
    wall_s: int
    file_bytes: int

    @classmethod
    def for_input(cls, size: int) -> Limits:
        """For files of `size` bytes together.

        A pickle of Paddle's may hold its weights as text, which takes twice the file in memory.
        """
        seconds = _SECONDS + size // _BYTES_A_SECOND
        return cls(_MEMORY + 4 * size, seconds, 3 * seconds, 4 * size + (16 << 20))

    def impose(self) -> None:
        """On this process and for good: also no core file, few open files, no other processes."""
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
