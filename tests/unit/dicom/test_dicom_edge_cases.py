"""What the front door does with each of the 37 files of pydicom's test set."""

from __future__ import annotations

import re

import numpy as np
import pytest

from simfrcnn.dicom.mammogram import DicomOptions, read_mammogram
from simfrcnn.errors import DicomError
from support.data_examples import SHARED_DATA, needs_shared

READABLE = {
    "JPEG-LL.dcm": (1024, 256),
    "JPEG-lossy.dcm": (1024, 256),
    "JPEG2000.dcm": (1024, 256),
    "JPGLosslessP14SV1_1s_1f_8b.dcm": (768, 1024),
    "MR_small.dcm": (64, 64),
    "MR_small_RLE.dcm": (64, 64),
    "MR_small_bigendian.dcm": (64, 64),
    "MR_small_expb.dcm": (64, 64),
    "MR_small_implicit.dcm": (64, 64),
    "MR_small_jp2klossless.dcm": (64, 64),
    "MR_small_jpeg_ls_lossless.dcm": (64, 64),
    "MR_small_padded.dcm": (64, 64),
    "bad_sequence.dcm": (512, 512),
    "explicit_VR-UN.dcm": (512, 512),
    "image_dfl.dcm": (512, 512),
    "mlut_18.dcm": (512, 512),
    "vlut_04.dcm": (512, 512),
}
REFUSED = {
    "ExplVR_BigEnd.dcm": "is 'RGB'",
    "ExplVR_BigEndNoMeta.dcm": "not a DICOM file",
    "ExplVR_LitEndNoMeta.dcm": "not a DICOM file",
    "MR_truncated.dcm": "truncated",
    "OT-PAL-8-face.dcm": "not a DICOM file",
    "SC_rgb.dcm": "is 'RGB'",
    "badVR.dcm": r"\(0028,0008\) is '1A'",
    "eCT_Supplemental.dcm": "is 2: a multi-frame",
    "empty_charset_LEI.dcm": r"\(7FE0,0010\) is missing",
    "emri_small.dcm": "is 10: a multi-frame",
    "emri_small_RLE.dcm": "is 10: a multi-frame",
    "emri_small_jpeg_2k_lossless.dcm": "is 10: a multi-frame",
    "emri_small_jpeg_2k_lossless_too_short.dcm": r"empty or ends too early",
    "liver.dcm": "is 3: a multi-frame",
    "meta_missing_tsyntax.dcm": r"Transfer Syntax UID \(0002,0010\) is missing",
    "no_meta.dcm": "not a DICOM file",
    "no_meta_group_length.dcm": r"\(7FE0,0010\) is missing",
    "reportsi.dcm": r"\(7FE0,0010\) is missing",
    "rtplan_truncated.dcm": r"\(7FE0,0010\) is missing",
    "test-SR.dcm": r"\(7FE0,0010\) is missing",
}
EDGE_CASES = SHARED_DATA / "dicom_edge_cases"


@pytest.mark.data
@needs_shared("dicom_edge_cases")
class TestEdgeCases:
    def test_the_table_is_complete(self) -> None:
        files = {path.name for path in EDGE_CASES.glob("*.dcm")}
        assert files == READABLE.keys() | REFUSED.keys()

    @pytest.mark.parametrize("name", READABLE)
    def test_readable(self, name: str) -> None:
        pytest.importorskip("libjpeg")
        mammogram = read_mammogram(EDGE_CASES / name, DicomOptions(any_modality=True))
        assert mammogram.pixels.shape == READABLE[name]
        assert mammogram.pixels.min() >= 0
        assert mammogram.pixels.max() <= 255
        assert mammogram.pixels.std() > 1

    @pytest.mark.parametrize("name", [n for n in READABLE if n.startswith("MR_small_")])
    def test_all_encodings_of_one_image_agree(self, name: str) -> None:
        pytest.importorskip("libjpeg")
        options = DicomOptions(any_modality=True)
        plain = read_mammogram(EDGE_CASES / "MR_small.dcm", options).pixels
        np.testing.assert_array_equal(read_mammogram(EDGE_CASES / name, options).pixels, plain)

    @pytest.mark.parametrize("name", REFUSED)
    def test_refused(self, name: str) -> None:
        with pytest.raises(DicomError, match=REFUSED[name]) as caught:
            read_mammogram(EDGE_CASES / name, DicomOptions(any_modality=True))
        assert name in str(caught.value)

    @pytest.mark.parametrize("name", READABLE)
    def test_none_is_a_mammogram(self, name: str) -> None:
        with pytest.raises(DicomError, match=re.escape("Modality (0008,0060)")):
            read_mammogram(EDGE_CASES / name)
