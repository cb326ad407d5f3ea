"""Sound from a picture of its spectrogram, as riffusion's models draw them (Forsgren & Martiros
2022): a picture's rows are bands of the mel scale, low ones at the bottom, its columns moments.
"""

from models.sound.scale import RIFFUSION, SoundScale
from models.sound.spectrogram_image import amplitudes
from models.sound.synthesis import NARROWEST, sound_of

__all__ = ["NARROWEST", "RIFFUSION", "SoundScale", "amplitudes", "sound_of"]
