"""A clock that is off: `time.time` and `datetime.now` of a process, shifted by seconds.

Only the clock that Python programs read is shifted. Monotonic clocks are right, as they are on a
machine whose date is wrong. `python -m tests.support.shifted_clock SECONDS MODULE` runs a module
with such a clock.
"""

import datetime as datetime_module
import runpy
import sys
import time
from typing import Any

import pytest

OURS = ("protocol", "service", "worker")
_real_time = time.time
_real_datetime = datetime_module.datetime


class _AnyDatetime(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _real_datetime)


class ShiftedDatetime(_real_datetime, metaclass=_AnyDatetime):
    """`datetime` whose `now` is that of `time.time`, which is shifted."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _real_datetime.fromtimestamp(time.time(), tz)


def shift_clock(seconds: float, patch: pytest.MonkeyPatch) -> None:
    """Shift this process' clock until `patch` is undone."""
    patch.setattr(time, "time", lambda: _real_time() + seconds)
    patch.setattr(datetime_module, "datetime", ShiftedDatetime)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in OURS and getattr(module, "datetime", None) is _real_datetime:
            patch.setattr(module, "datetime", ShiftedDatetime)


def main() -> None:
    seconds, module = float(sys.argv[1]), sys.argv[2]
    sys.argv[:] = [module, *sys.argv[3:]]
    # Before the program imports anything, so that all of it sees the shifted clock.
    shift_clock(seconds, pytest.MonkeyPatch())
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
