"""Secondary captures: the drawn picture of each film, for whatever shows nothing else.

Written with pydicom: highdicom's class asks for orientations that oblique views do not have.

Reference: DICOM PS3.3 A.8.1 (Secondary Capture Image), C.8.6.1 (SC Equipment).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from simfrcnn.dicom_out.objects import CAPTURE, encoded, new_object
from simfrcnn.dicom_out.sources import LOSSY, Source, Study


def captures(study: Study) -> Iterator[bytes]:
    """The files of the pictures, one for each film that was judged.

    Raises:
        DataError: The pixels were not kept.
    """
    for number, source in enumerate(study.judged, start=1):
        yield encoded(_capture(study, source), study, CAPTURE, number)


def _capture(study: Study, source: Source) -> Dataset:
    assert source.film is not None
    dataset = new_object(study, CAPTURE, SecondaryCaptureImageStorage)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = source.elements.get("PatientOrientation", "")
    dataset.BurnedInAnnotation = "YES"
    dataset.DerivationDescription = "8-bit picture with frames and scores; research use only"
    for keyword in LOSSY:  # the picture shows what the compression of the film has left
        if keyword in source.elements:
            dataset[keyword] = source.elements[keyword]
    dataset.SourceImageSequence = [source.reference]
    rgb = np.ascontiguousarray(source.film.picture()[..., ::-1])
    dataset.Rows, dataset.Columns = rgb.shape[:2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = rgb.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return dataset
