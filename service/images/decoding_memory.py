"""The memory that decoding may take, shared by all threads of the process that decode."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import DecodingBusy, PayloadTooLarge

WAIT_S = 10.0  # decoding one image takes a second or two
MEBIBYTE = 2**20


class DecodingMemory:
    """`size` bytes, of which each image reserves as many as its decoding needs at most."""

    def __init__(self, size: int, wait_s: float = WAIT_S) -> None:
        self.size = size
        self._wait_s = wait_s
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, field: str, image: str, count: int) -> Iterator[None]:
        """Reserve `count` bytes for the image of a field inside the block; wait until they are
        free.

        Raises `PayloadTooLarge` if there are not that many, `DecodingBusy` if others hold them for
        too long. A thread reserves for one image at a time, so that none waits for itself.
        """
        if count > self.size:
            bound = (
                f"an image that takes at most {self.size // MEBIBYTE} MiB to decode; "
                "a smaller one, or a JPEG that is not progressive"
            )
            shown = f"{image}, {-(-count // MEBIBYTE)} MiB"
            raise PayloadTooLarge(field, shown, bound, "image-too-large-to-decode")
        with self._changed:
            if not self._changed.wait_for(lambda: self._used + count <= self.size, self._wait_s):
                raise DecodingBusy
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
