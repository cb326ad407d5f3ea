"""Lua for Redis: each script is a file of its own, with the library before it.

A change of a job's state is one script, so it happens wholly or not at all, on the server's clock.
The scripts find keys on the way; that is why they are given one key only, which tells Redis Cluster
where to run them.
"""

from pathlib import Path

from protocol.keyspace import OURS, RQ

FOLDER = Path(__file__).parent / "lua"
LIBRARY = ("keys", "pace", "lane", "ending", "seen")


def script(*files: Path) -> str:
    """The text of a script, ready for Redis; the last file is the script, any before are its own
    library."""
    names = f"local rq, ours = '{RQ}', '{OURS}'\n"
    parts = [FOLDER / f"{part}.lua" for part in LIBRARY]
    return names + "\n".join(part.read_text("utf-8") for part in (*parts, *files))
