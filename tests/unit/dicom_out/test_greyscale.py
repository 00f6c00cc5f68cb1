"""A presentation state shows a film under the greys under which it was judged."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing
from pydicom.uid import ExplicitVRBigEndian

from benchmarks.dicom_validators import dciodvfy
from simfrcnn.dicom.mammogram import read_mammogram
from support.results import exam_of, phantom_films

pytest.importorskip("highdicom")
VALUES = np.arange(4096)


def table(entries, n_bits, first=0, dtype="<u2", vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries), first, n_bits])
    item.add_new("LUTData", "OW", np.asarray(entries).astype(dtype).tobytes())
    return item


def curve(n_bits, steepness=6.0):
    whole = 2**n_bits - 1
    return np.rint(whole / (1 + np.exp(-steepness * (VALUES / 2048 - 1))))


def without(dataset, *keywords):
    for keyword in keywords:
        dataset.pop(keyword, None)


def by_table(*tables):
    def change(dataset):
        without(dataset, "WindowCenter", "WindowWidth", "VOILUTFunction")
        dataset.VOILUTSequence = list(tables)

    return change


def by_both(dataset):
    dataset.VOILUTSequence = [table(curve(12), 12)]


def by_window(center, width, **more):
    def change(dataset):
        dataset.WindowCenter, dataset.WindowWidth = center, width
        for keyword, value in more.items():
            dataset[keyword].value = value

    return change


def inverted(spelling):
    def change(dataset):
        dataset.PixelData = (4095 - dataset.pixel_array).astype("<u2").tobytes()
        dataset.PhotometricInterpretation, dataset.PresentationLUTShape = spelling, "INVERSE"
        dataset.WindowCenter = 4095 - float(dataset.WindowCenter)

    return change


def by_modality_table(dataset):
    without(dataset, "RescaleSlope", "RescaleIntercept", "RescaleType")
    dataset.ModalityLUTSequence = [table(65535 - 16 * VALUES, 16)]
    dataset.WindowCenter, dataset.WindowWidth = 35000, 50000


def by_slope_alone(dataset):
    without(dataset, "RescaleIntercept")
    dataset.RescaleSlope, dataset.WindowCenter, dataset.WindowWidth = "0.5", 900, 1500


def signed(dataset):
    dataset.PixelData = (dataset.pixel_array.astype(int) - 2048).astype("<i2").tobytes()
    dataset.PixelRepresentation = 1
    by_table(table(curve(12), 12, first=-2048, vr="SS"))(dataset)


def of_an_enhanced_object(dataset):
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.13.1.4"
    )
    window, rescale, group = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 1500, 2200
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = "2", "-500", "US"
    without(dataset, "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
    group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [window], [rescale]
    dataset.SharedFunctionalGroupsSequence, dataset.NumberOfFrames = [group], 1


FILMS = {
    "a table of 12 bits beside a window": by_both,
    "a table of 12 bits": by_table(table(curve(12), 12)),
    "a table of 16 bits": by_table(table(curve(16), 16)),
    "bytes packed in words": by_table(table(curve(8), 8, dtype="u1")),
    "bytes, one a word": by_table(table(curve(8), 8)),
    "several tables": by_table(table(curve(12), 12), table(curve(12, 2.0), 12)),
    "several windows": by_window([1000, 2000], [1500, 4000]),
    "a second window that can be applied": by_window([1000, 1800], [0, 1500]),
    "SIGMOID in small letters": by_window(1800, 1500, VOILUTFunction="sigmoid"),
    "LINEAR_EXACT": by_window(1800, 1500, VOILUTFunction="LINEAR_EXACT"),
    "MONOCHROME1": inverted("MONOCHROME1"),
    "MONOCHROME1 in small letters": inverted("monochrome1"),
    "a modality table": by_modality_table,
    "a slope without an intercept": by_slope_alone,
    "signed values": signed,
    "functional groups": of_an_enhanced_object,
}


def film_of(folder, change):
    """An MLO film of a phantom whose header was changed."""
    path = phantom_films(folder)[1]
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def state_of(path, folder):
    (saved,) = exam_of([path], n_regions=0).save_dicom(folder, "gsps")
    return saved, pydicom.dcmread(saved)


def shown_by(state, path):
    """The film under its presentation state, by pydicom's own transforms: 8 bits."""
    film = pydicom.dcmread(path)
    film.PhotometricInterpretation = "MONOCHROME2"  # whatever it is: a state has its own polarity
    values = apply_modality_lut(film.pixel_array, state)
    (voi,) = state.SoftcopyVOILUTSequence
    if "VOILUTSequence" in voi:
        (only,) = voi.VOILUTSequence
        assert only.LUTDescriptor[2] == 16
        voi.set_original_encoding(False, True)
        greys = apply_voi(values.astype(int), voi) / 65535
    else:
        assert voi["WindowCenter"].VM == voi["WindowWidth"].VM == 1
        voi.BitsStored, voi.PixelRepresentation = 12, 0
        voi.PhotometricInterpretation = "MONOCHROME2"
        greys = apply_windowing(values, voi) / 4095
    return 255 * (1 - greys if state.PresentationLUTShape == "INVERSE" else greys)


@pytest.mark.parametrize("change", FILMS.values(), ids=FILMS.keys())
def test_a_state_shows_the_film_as_it_was_judged(tmp_path, change):
    path = film_of(tmp_path / "films", change)
    _, state = state_of(path, tmp_path / "out")
    judged = read_mammogram(path).pixels
    assert np.ptp(judged) > 100
    assert np.abs(shown_by(state, path) - judged).max() < 0.2


def test_a_film_without_a_table_or_window_has_a_state_without_one(tmp_path):
    path = film_of(
        tmp_path / "films",
        lambda film: without(film, "WindowCenter", "WindowWidth", "VOILUTFunction"),
    )
    _, state = state_of(path, tmp_path / "out")
    assert "SoftcopyVOILUTSequence" not in state
    assert state.RescaleSlope == pydicom.dcmread(path).RescaleSlope


def test_a_first_window_that_shows_every_pixel_alike_stands_in_the_state(tmp_path):
    """The pixels are not read again: the film was judged by the second one, as its notes say."""
    path = film_of(tmp_path / "films", by_window([-9000, 1800], [10, 1500]))
    assert "2 windows: number 2 was taken" in read_mammogram(path).notes
    _, state = state_of(path, tmp_path / "out")
    (voi,) = state.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (-9000, 10)


def test_a_table_of_a_big_endian_film_keeps_its_values(tmp_path):
    def change(dataset):
        by_table(table(curve(16), 16, dtype=">u2"))(dataset)
        dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    path = phantom_films(tmp_path / "films")[1]
    dataset = pydicom.dcmread(path)
    change(dataset)
    big = Dataset()
    big.update(dataset)
    big.file_meta = dataset.file_meta
    big.save_as(path, enforce_file_format=True)
    _, state = state_of(path, tmp_path / "out")
    assert np.abs(shown_by(state, path) - read_mammogram(path).pixels).max() < 0.2


@pytest.mark.service("dicom3tools")
@pytest.mark.parametrize(
    "name", ["a table of 12 bits beside a window", "several windows", "signed values"]
)
def test_dciodvfy_finds_no_error_in_the_transforms(tmp_path, name):
    saved, _ = state_of(film_of(tmp_path / "films", FILMS[name]), tmp_path / "out")
    assert dciodvfy(saved) == []
