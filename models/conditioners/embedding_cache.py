"""Cache of encoded prompts.

Encoding is a short chain of small operations: little work, but in the path of every request. The
same prompt with another seed, and the empty negative prompt of most requests, need it once.
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
    """Conditioning by prompt, with the least recently used evicted first, within `max_bytes`.

    The empty prompt (any key that is false), which nearly every guided request needs, is never
    evicted. `hits` and `misses` count the requests.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: K, encode: Callable[[K], Conditioning]) -> Conditioning:
        """Return the conditioning of `key`: the cached one, or the result of `encode`."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return kept
            self.misses += 1
        encoded = encode(key)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = encoded
                self._bytes += _size(encoded)
                self._evict()
        return encoded

    def count_from(self, other: EmbeddingCache) -> None:
        """Count on from the requests of another cache, which this one replaces."""
        self.hits, self.misses = other.hits, other.misses

    def _evict(self) -> None:
        for key in list(self._kept):
            if self._bytes <= self._max_bytes:
                return
            if key:
                self._bytes -= _size(self._kept.pop(key))


def _size(encoded: Conditioning) -> int:
    tensors: tuple[Tensor | None, ...] = (encoded.context, encoded.pooled)
    return sum(t.nbytes for t in tensors if t is not None)
