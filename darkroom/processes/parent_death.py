"""Run a program that cannot outlive the process that started it.

    python -m darkroom.processes.parent_death PARENT_PID program argument…

The kernel is asked to kill this process when its parent dies, however that dies, and then the
process becomes the program: the wish survives exec. A launcher rather than `preexec_fn`, which is
unsafe once the parent has threads. Linux only; elsewhere the program merely runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def bound_to_parent(command: list[str]) -> list[str]:
    """The command line that runs `command` bound_to_parent to the calling process.

    The tie is to the calling *thread*: start it from one that lives as long as the process.
    """
    return [sys.executable, "-m", "darkroom.processes.parent_death", str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, *command = arguments
    if sys.platform == "linux":
        _die_with_parent()
        # It may have died before the kernel was told; then we were handed to another parent.
        if os.getppid() != int(parent):
            sys.exit(f"the parent process {parent} is gone")
    os.execvp(command[0], command)


def _die_with_parent() -> None:
    """SIGKILL, not SIGTERM: nothing is lost by it, by design, and a hanging program obeys too."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


if __name__ == "__main__":
    main(sys.argv[1:])
