"""The same care as in the tests of jobs."""

from tests.worker.consumer.conftest import clients_are_closed

__all__ = ["clients_are_closed"]
