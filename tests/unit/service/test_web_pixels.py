"""The pixels that a browser gets: under the file's window they are what a display shows."""

import json
import threading

import cv2
import numpy as np
import pytest

from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.images.reading import read_image
from simfrcnn.service import web_pixels
from simfrcnn.service.web_pixels import FilmCache, film_pixels
from support.data_examples import write_dicom

STORED = np.random.default_rng(0).integers(100, 3000, (90, 70)).astype(np.uint16)
WINDOW = {"WindowCenter": 1200, "WindowWidth": 2400}
FILES = {
    "a window": WINDOW,
    "a narrow window": {"WindowCenter": 1000, "WindowWidth": 300},
    "a wide window": {"WindowCenter": 1500, "WindowWidth": 9000},
    "a sigmoid": {**WINDOW, "VOILUTFunction": "SIGMOID"},
    "no window": {},
    "inverted": {**WINDOW, "PhotometricInterpretation": "MONOCHROME1"},
    "rescaled": {**WINDOW, "RescaleSlope": 2, "RescaleIntercept": -500},
    "padding": {**WINDOW, "PixelPaddingValue": 100},
}


def shown(film):
    """What the viewer draws of a film, as it is asked to: window, curve, 8 bits."""
    scale = film.samples / np.iinfo(film.samples.dtype).max
    place = ((scale - film.low) / (film.high - film.low)).clip(0, 1)
    greys = np.interp(place, np.linspace(0, 1, len(film.curve)), film.curve)
    return np.rint(255 * greys)


@pytest.mark.parametrize("name", FILES)
def test_the_browser_shows_what_a_display_shows(tmp_path, name):
    path = write_dicom(tmp_path / "film.dcm", STORED, **FILES[name])
    film = film_pixels(path, STRICT)
    expected = read_image(path)
    if film.flips.horizontal:
        expected = expected[:, ::-1]
    away = np.abs(shown(film) - expected)
    if name == "padding":  # in the lowest value of the window, which is as black
        away = away[expected > 0]
    assert away.max() <= 1


def test_what_the_window_cuts_off_is_still_there(tmp_path):
    path = write_dicom(tmp_path / "film.dcm", STORED, WindowCenter=1000, WindowWidth=300)
    film = film_pixels(path, STRICT)
    assert len(np.unique(read_image(path))) < 256
    assert len(np.unique(film.samples)) == len(np.unique(STORED))
    assert 0 < film.low < film.high < 1


def test_pictures_of_8_and_16_bits(tmp_path):
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        pixels = (np.arange(600).reshape(30, 20) * (white // 600 or 1) % (white + 1)).astype(dtype)
        pixels[0, 0] = white
        path = tmp_path / f"{white}.png"
        cv2.imwrite(str(path), pixels)
        film = film_pixels(path, STRICT)
        assert film.samples.dtype == dtype
        assert (film.samples == pixels).all()
        assert (film.low, film.high) == (0, 1)


def test_a_block_says_what_it_holds(tmp_path):
    path = write_dicom(tmp_path / "film.dcm", STORED, **WINDOW)
    film = film_pixels(path, STRICT)
    for reduction in web_pixels.REDUCTIONS:
        block = film.block(reduction)
        length = int.from_bytes(block[:4], "little")
        assert length % 4 == 0
        header = json.loads(block[4 : 4 + length])
        assert (header["width"], header["height"]) == (70 // reduction, 90 // reduction)
        n_samples = header["width"] * header["height"]
        assert len(block) == 4 + length + n_samples * header["bits"] // 8


def test_a_film_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "film.dcm", STORED, **WINDOW)
    read = []

    def reading(path: object, options: DicomOptions) -> object:
        read.append(path)
        return film_pixels(path, options)

    monkeypatch.setattr(web_pixels, "film_pixels", reading)
    cache = FilmCache(STRICT, n_kept=1)
    threads = [threading.Thread(target=cache.film, args=(path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [path]
    write_dicom(path, STORED[:50], **WINDOW)
    assert cache.film(path).samples.shape == (50, 70)
    path.write_bytes(b"damaged")
    for _ in range(2):  # a failure is not kept
        with pytest.raises(DataError):
            cache.film(path)
    assert len(read) == 4
