"""`darkroom worker`: one worker alone, or one for each device of this machine."""

import argparse
import os

from darkroom.processes.devices import device_list
from darkroom.processes.worker_pool import WorkerPool
from darkroom.signals import run_until_signal
from protocol.telemetry.logs import start_logging

HELP = "run one worker alone, or one for each device"
ENDING_S = 10.0  # for a worker to hand back and leave, after the time it has to finish
EXIT_STATUS = """
exit status: 0 after an orderly stop; 1 if a worker could not start or its engine broke; 2 for wrong
options; 75 if a step hung (DARKROOM_WORKER_STALL_S). With --devices, a worker that ends after it
was once ready is started again, so there it is 0, 1 (one was never ready) or 2.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Run one worker in the foreground: it takes jobs from Redis (REDIS_URL), draws them with "
        "DARKROOM_MODEL on DARKROOM_DEVICE and writes pictures to OBJECT_STORE_URL. SIGTERM lets "
        "it finish what it draws, within DARKROOM_WORKER_SHUTDOWN_GRACE_S; a second one does not."
    )
    parser.epilog = EXIT_STATUS
    parser.add_argument(
        "--devices",
        type=device_list,
        metavar="LIST",
        help="one process for each of these, kept running and stopped together: all, or a list as "
        "0,1 (GPUs) or cpu,cpu; the metrics of each are served one port further",
    )


def run(arguments: argparse.Namespace) -> int:
    """Work until stopped."""
    # The threads of an operator wait for each other, by default spinning for long, which beside
    # other work burns the time that the others need. So they spin for some microseconds only,
    # then sleep (measured, see DECISIONS.md). It must be said before torch loads OpenMP.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if arguments.devices is not None:
        return _run_fleet(arguments.devices)
    # Only here: this loads torch.
    from worker.__main__ import main

    return main()


def _run_fleet(devices: list[str]) -> int:
    """Keep a worker running for each device until stopped."""
    # Only here: the other commands need no settings of a worker.
    from worker.settings import WorkerSettings

    settings = WorkerSettings()
    start_logging(settings)
    fleet = WorkerPool(
        devices,
        settings,
        metrics_port=settings.worker_metrics_port,
        grace_s=settings.worker_shutdown_grace_s + ENDING_S,
    )
    run_until_signal(fleet.stand(), hurry=fleet.hurry)
    return 0
