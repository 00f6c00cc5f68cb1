"""What do both structured reports say in the same way: films, summary, outline, evidence?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pydicom.dataset import Dataset

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.codes import Code
from simfrcnn.dicom_out.content import HAS_ACQUISITION, HAS_MODIFIER, coded, number
from simfrcnn.dicom_out.findings import JudgedFilm, Region
from simfrcnn.dicom_out.objects import SR, series_uid, uid_of
from simfrcnn.dicom_out.sources import Source, Study
from simfrcnn.records import Laterality
from simfrcnn.wording import counted

ALGORITHM = "simfrcnn"


def language() -> Dataset:
    """TID 1204: the report is in English."""
    return coded(HAS_MODIFIER, codes.LANGUAGE, codes.ENGLISH)


def summary_code(study: Study) -> Code:
    """Of CID 6047: whether every film could be judged, and whether anything was found."""
    if not study.judged:
        return codes.NONE_SUCCEEDED
    if study.n_failed:
        return codes.SOME_WITH if study.n_regions else codes.SOME_WITHOUT
    return codes.ALL_WITH if study.n_regions else codes.ALL_WITHOUT


def remarks(study: Study) -> str:
    """What a reader has to know of the exam as a whole, in sentences."""
    findings = study.findings
    judged = counted(len(study.judged), "[film was|films were] judged")
    found = counted(study.n_regions, "[region|regions]")
    said = [f"{judged}; {found} from score {findings.score_threshold:g} on."]
    if study.n_failed:
        failed = counted(study.n_failed, "[film|films] could not be judged")
        unnamed = ""
        if study.n_unnamed:
            unnamed = f", {study.n_unnamed} of which cannot be referred to"
        said.append(f"{failed}{unnamed}.")
    said += findings.remarks
    return " ".join([*said, "Research use only, not a medical device."])


def facts_of_film(source: Source, sides: Mapping[Laterality, Code]) -> Iterator[Dataset]:
    """Side, view and size of a film, as the templates of both image libraries have them.

    The codes of the sides differ: CID 6022 in TID 4020, CID 244 in TID 1602. No pixel
    spacing: it would invite lengths in mm, and is that at the detector.
    """
    elements = source.elements
    if source.laterality is not None:
        yield coded(HAS_ACQUISITION, codes.IMAGE_LATERALITY, sides[source.laterality])
    if source.view_position in codes.VIEWS:  # others have no code here
        yield coded(HAS_ACQUISITION, codes.IMAGE_VIEW, codes.VIEWS[source.view_position])
    for name, keyword in (
        (codes.PIXEL_DATA_ROWS, "Rows"),
        (codes.PIXEL_DATA_COLUMNS, "Columns"),
    ):
        if keyword in elements:
            yield number(HAS_ACQUISITION, name, str(elements.get(keyword)), codes.PIXELS)


def outline(region: Region, source: Source) -> list[tuple[float, float]]:
    """The closed outline of a box inside its film: five points (column, row)."""
    rows, columns = float(source.elements.Rows), float(source.elements.Columns)
    x1, x2 = (min(max(x, 0.0), columns) for x in region.box[::2])
    y1, y2 = (min(max(y, 0.0), rows) for y in region.box[1::2])
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]


def tracking_uid(study: Study, source: Source, region: Region) -> str:
    """Of one region: the same in every object of the result."""
    box = ",".join(repr(side) for side in region.box)
    film = str(source.elements.SOPInstanceUID)
    return str(uid_of(str(series_uid(study, SR)), film, region.category, box))


def tracking_identifier(film: JudgedFilm, place: int) -> str:
    """What a person reads: side, view, number on the film, the model's word and the score."""
    region = film.regions[place]
    side = film.laterality.value if film.laterality else ""
    view = film.view_position.value if film.view_position else ""
    name = f"{side}{view}" or "film"
    return f"{name} {place + 1}: {region.category}, score {region.score:.2f}"


def percent(score: float) -> str:
    """A score in [0, 1] as the decimal string of a percentage."""
    return f"{100 * score:.1f}"


def evidence(study: Study) -> list[Dataset]:
    """Current Requested Procedure Evidence Sequence (0040,A375): all films that are named."""
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for source in study.films:
        by_series[str(source.elements.SeriesInstanceUID)].append(source.reference)
    whole = Dataset()
    whole.ReferencedSeriesSequence = [_series(uid, items) for uid, items in by_series.items()]
    whole.StudyInstanceUID = study.common.StudyInstanceUID
    return [whole]


def add_document(dataset: Dataset, root: Dataset, study: Study) -> None:
    """Add a content tree and the modules of an SR document, without anybody's signature."""
    dataset.update(root)
    dataset.CompletionFlag = "PARTIAL" if study.n_failed else "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = evidence(study)
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedPerformedProcedureStepSequence = []


def _series(series_instance_uid: str, references: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPSequence = list(references)
    item.SeriesInstanceUID = series_instance_uid
    return item
