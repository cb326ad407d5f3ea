"""Delivery's patience with the store."""

import io

import numpy as np
import pytest
import soundfile
from obstore.store import MemoryStore
from PIL import Image

from protocol.errors import StoreUnavailable, UnknownImage
from protocol.request.object_keys import AudioFormat, Extra, input_key, new_job_id
from protocol.request.request import ControlUse
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import request
from tests.worker.output.test_image_files import GRADIENT
from worker.output.output_processor import OutputProcessor


class AwayStore(ObjectStore):
    """Never answers; `tries` counts."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.tries = 0

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.tries += 1
        raise StoreUnavailable

    def get(self, key: str) -> bytes:
        self.tries += 1
        raise StoreUnavailable


def test_the_result_describes_what_was_stored() -> None:
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    job_id = new_job_id()
    task = delivery.submit(delivery.image, job_id, 3, GRADIENT, request(output_format="webp"), 9)
    image = task.result()
    delivery.close()
    assert image.key == f"results/{job_id}/3.webp"
    assert (image.height, image.width) == GRADIENT.shape[:2]
    assert (image.seed, image.format.value) == (9, "webp")
    assert len(store.get(image.key)) == image.bytes


def test_depth_is_stored_beside_its_picture() -> None:
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    high, low = GRADIENT[..., :1], GRADIENT[..., 1:2]
    pixels = np.concatenate([GRADIENT, high, low], axis=-1)
    job_id = new_job_id()
    image = delivery.submit(delivery.image, job_id, 2, pixels, request(), 9).result()
    delivery.close()
    (depth,) = image.extras
    assert (depth.kind, depth.key) == (Extra.DEPTH, f"results/{job_id}/2.depth.png")
    assert depth.bytes == len(store.get(depth.key))
    opened = Image.open(io.BytesIO(store.get(depth.key)))
    expected = high[..., 0].astype(np.uint16) * 256 + low[..., 0]
    assert opened.mode == "I;16"
    assert np.array_equal(np.asarray(opened), expected)
    picture = Image.open(io.BytesIO(store.get(image.key)))
    assert np.array_equal(np.asarray(picture), GRADIENT)


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_a_spectrogram_is_delivered_as_a_sound_too(audio_format: AudioFormat) -> None:
    """A bright picture with one dark row is a tone; read by libsndfile, as a client's player."""
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    pixels = np.full((64, 40, 3), 255, np.uint8)
    pixels[32] = 0  # from the bottom, band 31 of 64
    job_id = new_job_id()
    asked = request(audio_format=audio_format, output_format="jpeg", width=40, height=64)
    image = delivery.submit(delivery.image, job_id, 0, pixels, asked, 9).result()
    delivery.close()
    (sound,) = image.extras
    assert (sound.kind, sound.format.value) == (Extra.SOUND, audio_format.value)
    assert sound.key == f"results/{job_id}/0.sound.{audio_format.value}"
    samples, rate = soundfile.read(io.BytesIO(store.get(sound.key)))
    assert (rate, samples.ndim) == (44100, 1)
    assert len(samples) == pytest.approx(441 * 39, abs=0 if audio_format != "mp3" else 3000)
    mels = 2595 * np.log10(1 + 10000 / 700) * 32 / 65
    tone = 700 * (10 ** (mels / 2595) - 1)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(tone, rel=0.05)


def test_a_stereo_sound_has_two_channels_and_its_picture_says_so() -> None:
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 24, 3), dtype=np.uint8)
    asked = request(audio_format="wav", audio_stereo=True, width=24, height=32)
    image = delivery.submit(delivery.image, new_job_id(), 0, pixels, asked, 9).result()
    delivery.close()
    samples, _ = soundfile.read(io.BytesIO(store.get(image.extras[0].key)))
    assert samples.shape == (441 * 23, 2)
    exif = Image.open(io.BytesIO(store.get(image.key))).getexif()
    published: dict[int, float] = {
        11000: 44100,
        11005: 1,
        11010: 10,
        11020: 100,
        11030: 400,
        11040: 32,
    }
    published |= {11050: 0, 11060: 10000, 11070: 0.25, 11080: 30e6}
    assert {tag: float(value) for tag, value in exif.items()} == published


def test_other_pictures_have_neither_sound_nor_exif() -> None:
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    asked = request(output_format="jpeg")
    image = delivery.submit(delivery.image, new_job_id(), 0, GRADIENT, asked, 9).result()
    delivery.close()
    assert image.extras == ()
    assert b"Exif" not in store.get(image.key)


def test_an_impatient_delivery_tries_once() -> None:
    store = AwayStore()
    delivery = OutputProcessor(store, threads=1, patience_s=0)
    task = delivery.submit(delivery.image, new_job_id(), 0, GRADIENT, request(), 1)
    assert isinstance(task.exception(), StoreUnavailable)
    assert store.tries == 1
    delivery.close()


def test_closing_ends_all_patience() -> None:
    store = AwayStore()
    delivery = OutputProcessor(store, threads=1, patience_s=1e6)
    task = delivery.submit(delivery.image, new_job_id(), 0, GRADIENT, request(), 1)
    delivery.close()
    assert task.cancelled() or isinstance(task.exception(), StoreUnavailable)


def test_a_missing_input_is_not_waited_for() -> None:
    delivery = OutputProcessor(ObjectStore.open("memory:///"), threads=1, patience_s=1e6)
    asked = request(task="img2img", strength=0.5, image_key=input_key(b"x"))
    with pytest.raises(UnknownImage):
        delivery.inputs(asked)
    delivery.close()


def test_the_pictures_of_controls_come_in_their_order() -> None:
    store = ObjectStore.open("memory:///")
    delivery = OutputProcessor(store, threads=1, patience_s=1e6)
    pictures = {input_key(data): data for data in (b"image", b"one", b"two")}
    for key, data in pictures.items():
        store.put(key, data, "image/png")
    image, one, two = pictures
    controls = tuple(ControlUse(model="edges", image_key=key) for key in (two, one, two))
    asked = request(task="img2img", strength=0.5, image_key=image, controls=controls)
    found = delivery.submit(delivery.inputs, asked).result()
    delivery.close()
    assert (found.image, found.mask, found.controls) == (b"image", None, (b"two", b"one", b"two"))
