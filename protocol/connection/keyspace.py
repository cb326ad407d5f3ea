"""The prefixes of Redis keys.

`RQ_KEY_PREFIX` is RQ's own variable and sets the prefix of our keys, too: two installations can
share one Redis. On Redis Cluster, where a script may access one slot only, a prefix in braces such
as `{darkroom}` puts all keys into one slot.
"""

import os

RQ = os.environ.get("RQ_KEY_PREFIX", "rq")
OURS = "darkroom" if RQ == "rq" else f"{RQ}:darkroom"


def key(*parts: str) -> str:
    """Return the name of a key or channel of ours."""
    return ":".join((OURS, *parts))
