"""Sound from amplitudes alone, by a search for matching phases.

Griffin & Lim 1984, "Signal Estimation from Modified Short-Time Fourier Transform", with the
momentum of Perraudin, Balazs & Sondergaard 2013, "A Fast Griffin-Lim Algorithm".
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.sound.scale import SoundScale

ITERATIONS = 32
MOMENTUM = 0.99


def griffin_lim(amplitudes: Tensor, generator: torch.Generator, scale: SoundScale) -> Tensor:
    """Convert amplitudes (channels, bins, columns) float32 to sound (channels, samples).

    The phases are random at first. The sound has hop * (columns - 1) samples, which must be more
    than half a padded window.
    """
    shape = amplitudes.shape
    window = torch.hann_window(scale.window)
    phases = torch.rand(shape, dtype=torch.complex64, generator=generator)
    previous = torch.zeros_like(phases)
    for _ in range(ITERATIONS):
        analysed = _analysis(_synthesis(amplitudes * phases, window, scale), window, scale)
        accelerated = analysed - previous * (MOMENTUM / (1 + MOMENTUM))
        phases = accelerated / (accelerated.abs() + 1e-16)
        previous = analysed
    return _synthesis(amplitudes * phases, window, scale)


def _analysis(sound: Tensor, window: Tensor, scale: SoundScale) -> Tensor:
    return torch.stft(sound, scale.n_fft, scale.hop, scale.window, window, return_complex=True)


def _synthesis(spectrum: Tensor, window: Tensor, scale: SoundScale) -> Tensor:
    return torch.istft(spectrum, scale.n_fft, scale.hop, scale.window, window)
