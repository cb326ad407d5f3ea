"""Launcher of programs that the kernel kills when their parent process dies.

    python -m darkroom.processes.parent_death PARENT_PID program argument…

The launcher sets PR_SET_PDEATHSIG and then execs the program; the setting survives exec.
`preexec_fn` would be unsafe once the parent has threads. Linux only; on other systems the program
runs without this protection.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def bound_to_parent(command: list[str]) -> list[str]:
    """Return the command line that runs `command` until the calling process dies.

    The kernel watches the calling *thread*: start the command from a thread that lives as long as
    the process.
    """
    return [sys.executable, "-m", "darkroom.processes.parent_death", str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Bind this process to its parent and exec the program."""
    parent, *command = arguments
    if sys.platform == "linux":
        die_with_parent()
        # If the parent died before the call above, this process has another parent by now.
        if os.getppid() != int(parent):
            sys.exit(f"the parent process {parent} is gone")
    os.execvp(command[0], command)


def die_with_parent() -> None:
    """Request SIGKILL at the parent's death: it loses no data, by design, and it also ends a
    program that hangs, which SIGTERM would not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


if __name__ == "__main__":
    main(sys.argv[1:])
