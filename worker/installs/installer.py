"""Installs models of the hub by request, one at a time, while jobs are served.

An install runs in a thread of its own and converts files in a child process, so that the engine
never waits for it. A periodic task claims installs, renews the lease and reports the progress.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from redis import Redis

from models.checkpoints.convert.install import install_by_request
from models.checkpoints.convert.model_store import Installed, ModelStore
from models.checkpoints.errors import CheckpointError
from models.checkpoints.names import default_name
from protocol.errors import QueueUnavailable
from protocol.registry.installs import Install, Installs, new_token
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.models_config import InvalidModelsConfig
from worker.installs.validation import validate_install
from worker.model_manager.served_models import ServedModels
from worker.periodic_runner import PeriodicRunner, PeriodicTask

logger = logging.getLogger(__name__)

CLOSE_S = 5.0  # for which `close` waits for an install to stop
LOOK_EVERY_S = 0.2  # for the card of a new model

InstallModel = Callable[[Install, "Progress"], Installed]


class Stopped(Exception):
    """Ends an install because the worker stops, or has lost the lease."""


@dataclass
class Progress:
    """The progress of an install, and the request to stop it."""

    share: float = 0.0
    part: str = ""
    stopped: bool = False

    def __call__(self, share: float, part: str) -> None:
        """Note the share done and the current part. Raises Stopped."""
        if self.stopped:
            raise Stopped
        self.share, self.part = share, part


class _Run:
    """An install in its thread. `outcome` is what was installed, or the error."""

    def __init__(self, install: Install, token: str, work: InstallModel) -> None:
        self.install = install
        self.token = token
        self.progress = Progress()
        self.outcome: Installed | BaseException | None = None
        # A daemon: the process must not wait for gigabytes to be fetched before it ends.
        self.thread = threading.Thread(
            target=self._run, args=(work,), name="installer", daemon=True
        )
        self.thread.start()

    def _run(self, work: InstallModel) -> None:
        try:
            self.outcome = work(self.install, self.progress)
        except BaseException as error:  # of any kind: without an outcome it would never end
            self.outcome = error


class Installer:
    """Claims installs and runs them with `work`. All methods raise QueueUnavailable."""

    def __init__(self, installs: Installs, work: InstallModel, lease_s: float) -> None:
        self._installs = installs
        self._work = work
        self._lease_s = lease_s
        self._run: _Run | None = None
        self._token = new_token()

    def check(self) -> None:
        """Claim an install, or report the one that runs. To be called thrice a lease, or more."""
        run = self._run
        if run is None:
            self._begin()
        elif run.outcome is None:
            self._renew(run)
        else:
            self._end(run, run.outcome)
            self._run = None

    def close(self) -> None:
        """Stop what runs and give it back for another worker."""
        if (run := self._run) is None:
            return
        run.progress.stopped = True
        run.thread.join(CLOSE_S)
        with suppress(QueueUnavailable):
            self._end(run, run.outcome or Stopped())

    def _begin(self) -> None:
        install = self._installs.claim(self._token, self._lease_s)
        if install is not None:
            logger.info("installing", extra={"install": install.id, "source": install.source})
            self._run = _Run(install, self._token, self._work)
            self._token = new_token()  # only now: a call without an answer must be repeated

    def _renew(self, run: _Run) -> None:
        progress = run.progress
        held = self._installs.report(
            run.install.id, run.token, self._lease_s, progress.share, progress.part
        )
        if not held and not progress.stopped:
            logger.warning(
                "install cancelled, or lost to another worker", extra={"install": run.install.id}
            )
            progress.stopped = True

    def _end(self, run: _Run, outcome: Installed | BaseException) -> None:
        installs, install_id, token = self._installs, run.install.id, run.token
        match outcome:
            case Installed():
                installs.finish(install_id, token, outcome.name, outcome.kind)
                logger.info("installed", extra={"install": install_id, "model": outcome.name})
            case Stopped() | QueueUnavailable():  # it may be begun again
                installs.release(install_id, token)
                logger.info("install given back", extra={"install": install_id})
            case CheckpointError() | InvalidModelsConfig() | ValueError() | OSError():
                installs.fail(install_id, token, str(outcome))
                logger.warning(
                    "not installed", extra={"install": install_id, "reason": str(outcome)}
                )
            case _:
                installs.fail(install_id, token, f"{type(outcome).__name__}: {outcome}")
                logger.error("an install failed", extra={"install": install_id}, exc_info=outcome)


@contextmanager
def installing(redis: Redis, served: ServedModels) -> Iterator[None]:
    """Install models while the block runs, if the settings name owners."""
    settings = served.settings
    if not settings.install_owners:
        yield
        return

    def work(install: Install, report: Progress) -> Installed:
        return install_model(install, report, served, redis)

    with (
        closing(Installer(Installs(redis), work, settings.worker_lease_s)) as installer,
        # In a thread of its own: no other task may delay it.
        PeriodicRunner(PeriodicTask(settings.worker_heartbeat_s, installer.check)),
    ):
        yield


def install_model(
    install: Install, report: Progress, served: ServedModels, redis: Redis
) -> Installed:
    """Install a model, and serve it if it is a whole one.

    Raises CheckpointError, ValueError, OSError, QueueUnavailable, and Stopped.
    """
    if install.owner not in served.settings.install_owners:  # Redis is not trusted
        raise CheckpointError(f"DARKROOM_INSTALL_OWNERS of this worker lacks {install.owner}")
    name = install.name or default_name(install.source)
    installed = install_by_request(
        install.source,
        ModelStore(served.settings.models_home),
        install.id,
        name=name,
        kind=install.kind.value if install.kind else None,
        report=report,
        validate=lambda converted: validate_install(converted, name, served, redis),
    )
    served.refresh()
    if installed.kind == "model":
        _wait_for_card(installed.name, served, ModelRegistry(redis), report)
    return installed


def _wait_for_card(
    name: str, served: ServedModels, registry: ModelRegistry, report: Progress
) -> None:
    """Wait until clients find the model. Raises CheckpointError if it cannot be served."""
    if name not in served.descriptions:
        raise CheckpointError(f"the model {name} was installed, but cannot be described")
    while name not in registry.cards():
        report(1.0, "publishing")
        time.sleep(LOOK_EVERY_S)
