"""What prompts were encoded to, kept for the next request that says the same.

Encoding is a short chain of small operations: little work, but on the way of every request. The
same prompt with another seed, and the empty negative prompt of nearly everybody, need it once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from torch import Tensor

from models.denoising.denoiser import Conditioning

K = TypeVar("K", bound=Hashable)


class EmbeddingCache:
    """Conditioning by what was said, the least recently used forgotten first, within `max_bytes`.

    The empty prompt (any that is false), which nearly every guided request needs, is never
    forgotten. `hits` and `misses` count what was asked for.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, said: K, encode: Callable[[K], Conditioning]) -> Conditioning:
        """The conditioning of `said`: the one kept, or else what `encode` makes of it."""
        with self._lock:
            if (kept := self._kept.get(said)) is not None:
                self._kept.move_to_end(said)
                self.hits += 1
                return kept
            self.misses += 1
        made = encode(said)
        with self._lock:
            if said not in self._kept:
                self._kept[said] = made
                self._bytes += _size(made)
                self._forget()
        return made

    def _forget(self) -> None:
        for said in list(self._kept):
            if self._bytes <= self._max_bytes:
                return
            if said:
                self._bytes -= _size(self._kept.pop(said))


def _size(said: Conditioning) -> int:
    tensors: tuple[Tensor | None, ...] = (said.context, said.pooled)
    return sum(t.nbytes for t in tensors if t is not None)
