"""What prompts were encoded to, kept for the next request that says the same.

Encoding is a short chain of small operations: little work, but on the way of every request. The
same prompt with another seed, and the empty negative prompt of nearly everybody, need it once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from models.denoising import Conditioning


class EmbeddingCache:
    """Conditioning by text, the least recently used forgotten first, within `max_bytes`.

    The empty prompt, which nearly every guided request needs, is never forgotten. `hits` and
    `misses` count what was asked for.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Conditioning] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, text: str, encode: Callable[[str], Conditioning]) -> Conditioning:
        """The conditioning of `text`: the one kept, or else what `encode` makes of it."""
        with self._lock:
            if (kept := self._kept.get(text)) is not None:
                self._kept.move_to_end(text)
                self.hits += 1
                return kept
            self.misses += 1
        made = encode(text)
        with self._lock:
            if text not in self._kept:
                self._kept[text] = made
                self._bytes += _size(made)
                self._forget()
        return made

    def _forget(self) -> None:
        for text in list(self._kept):
            if self._bytes <= self._max_bytes:
                return
            if text:
                self._bytes -= _size(self._kept.pop(text))


def _size(said: Conditioning) -> int:
    tensors: tuple[Tensor | None, ...] = (said.context, said.pooled)
    return sum(t.nbytes for t in tensors if t is not None)
