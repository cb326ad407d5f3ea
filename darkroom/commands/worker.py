"""`darkroom worker`: run one worker, or one for each device of this machine."""

import argparse
import os

from darkroom.lasting_imports import lasting_imports
from darkroom.processes.devices import device_list
from darkroom.processes.worker_pool import WorkerPool
from darkroom.signals import run_until_signal
from protocol.startup import read_settings
from protocol.telemetry.logs import start_logging

HELP = "run one worker, or one for each device"
REQUEUE_S = 10.0  # for a worker to requeue its jobs and end, after its grace time
EXIT_STATUS = """
exit status: 0 when stopped as requested; 1 if a worker could not start or its engine failed; 2 for
invalid options or settings; 75 if one step took longer than DARKROOM_WORKER_STALL_S. With
--devices, a worker that ends after it was ready is started again, so the status is 0, 1 (one worker
was never ready) or 2.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Run one worker in the foreground: it claims jobs from Redis (REDIS_URL), runs them with "
        "DARKROOM_MODEL on DARKROOM_DEVICE and writes images to OBJECT_STORE_URL. After SIGTERM it "
        "finishes its running jobs within DARKROOM_WORKER_SHUTDOWN_GRACE_S; after a second SIGTERM "
        "it requeues them at once."
    )
    parser.epilog = EXIT_STATUS
    parser.add_argument(
        "--devices",
        type=device_list,
        metavar="LIST",
        help="run one process for each device, restart those that fail, and stop them together: "
        "all, or a list such as 0,1 (GPUs) or cpu,cpu; each serves its metrics at the next port",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until a signal stops the workers."""
    # OpenMP threads of an operator wait for each other. By default they spin for long, which takes
    # CPU time from other processes. So they spin for some microseconds only, then sleep (measured,
    # see DECISIONS.md). It must be set before torch loads OpenMP.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if arguments.devices is not None:
        return _run_pool(arguments.devices)
    # Only here: this loads torch.
    with lasting_imports():
        from worker.__main__ import main
    return main()


def _run_pool(devices: list[str]) -> int:
    """Keep one worker running for each device until a signal stops them."""
    # Only here: the other commands need no worker settings.
    from worker.settings import WorkerSettings

    settings = read_settings(WorkerSettings)
    start_logging(settings)
    pool = WorkerPool(
        devices,
        settings,
        metrics_port=settings.worker_metrics_port,
        grace_s=settings.worker_shutdown_grace_s + REQUEUE_S,
    )
    run_until_signal(pool.run(), on_second_signal=pool.terminate)
    return 0
