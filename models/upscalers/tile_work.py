"""Work on one image that is done part by part, so that other images step in between."""

from __future__ import annotations

from collections.abc import Generator

from models.upscalers.resampling import Pixels


class TileWork:
    """An image on which a generator works; one `advance` does one part.

    `pixels` is the image, after the last step the result.
    """

    def __init__(self, pixels: Pixels, steps: int, work: Generator[None]) -> None:
        """`work` yields before each step, and sets the attributes that describe it."""
        self.pixels = pixels
        self.steps = steps
        self.row = 0
        self.method = ""  # what the next step runs
        self.shape = (0, 0)  # height and width of what it reads
        self._work = work
        next(self._work)  # up to the first step

    @property
    def done(self) -> bool:
        return self.row == self.steps

    @property
    def evaluations_left(self) -> int:
        """Return the number of steps left."""
        return self.steps - self.row

    @property
    def runs_left(self) -> int:
        """Return the number of steps left."""
        return self.evaluations_left

    def advance(self) -> None:
        """Take one step."""
        next(self._work, None)
        self.row += 1
