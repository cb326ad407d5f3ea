"""Imports of modules that stay: no collection during them, and none of their objects after."""

import subprocess
import sys

PROGRAM = """
import gc

from darkroom.lasting_imports import lasting_imports

with lasting_imports():
    assert not gc.isenabled()
    imported = [[] for _ in range(1000)]
assert gc.isenabled()
assert gc.get_freeze_count() > len(imported)
try:
    with lasting_imports():
        import nowhere
except ModuleNotFoundError:
    assert gc.isenabled()
    print("done")
"""


def test_imported_objects_are_exempt_from_garbage_collection() -> None:
    """In a process of its own, because this process shall not exempt what tests leave."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "done\n"
