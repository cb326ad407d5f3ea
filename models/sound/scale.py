"""Scale of a spectrogram image: the meaning of its axes and its brightness."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SoundScale:
    """Scale of a spectrogram image; the defaults are riffusion's published parameters.

    A column every step_ms is the spectrum of window_ms of sound, padded with silence to padded_ms.
    The rows divide the mel scale from min_frequency to max_frequency, in Hz. Brightness is the
    amplitude, as a share of max_value, to the power of `power`; black is the loudest.
    """

    sample_rate: int = 44100
    step_ms: int = 10
    window_ms: int = 100
    padded_ms: int = 400
    min_frequency: int = 0
    max_frequency: int = 10000
    power: float = 0.25
    max_value: float = 30e6

    @property
    def hop(self) -> int:
        """Return the samples between two columns."""
        return self.sample_rate * self.step_ms // 1000

    @property
    def window(self) -> int:
        """Return the samples in the window of a column."""
        return self.sample_rate * self.window_ms // 1000

    @property
    def n_fft(self) -> int:
        """Return the samples of a column with its padding."""
        return self.sample_rate * self.padded_ms // 1000

    @property
    def bins(self) -> int:
        """Return the frequencies of a column."""
        return self.n_fft // 2 + 1


RIFFUSION = SoundScale()
