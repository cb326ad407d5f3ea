"""Lua for Redis: each script is a file of its own, with the library before it.

A change of a job's state is one script, so it happens wholly or not at all, on the server's clock.
The scripts find keys on the way; that is why they are given one key only, which tells Redis Cluster
where to run them.
"""

from pathlib import Path

from protocol.connection.keyspace import OURS, RQ

FOLDER = Path(__file__).parent / "lua"
LIBRARY = ("keys", "pace", "lane", "ending", "seen")


def script(*names: str) -> str:
    """Return the text of a Lua script; any names before the last are its own library."""
    prefixes = f"local rq, ours = '{RQ}', '{OURS}'\n"
    parts = [FOLDER / f"{name}.lua" for name in (*LIBRARY, *names)]
    return prefixes + "\n".join(part.read_text("utf-8") for part in parts)
