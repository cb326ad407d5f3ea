"""How the names of keys begin.

`RQ_KEY_PREFIX` is RQ's own variable, and moves our keys along with RQ's: two houses can share one
Redis, and on Redis Cluster, where a script may touch one slot only, a prefix in braces such as
`{darkroom}` keeps everything in one.
"""

import os

RQ = os.environ.get("RQ_KEY_PREFIX", "rq")
OURS = "darkroom" if RQ == "rq" else f"{RQ}:darkroom"


def key(*parts: str) -> str:
    """A key, or a channel, of ours."""
    return ":".join((OURS, *parts))
