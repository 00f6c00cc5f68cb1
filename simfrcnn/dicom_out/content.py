"""How are items of an SR content tree made, and how is a tree walked?

Reference: DICOM PS3.3 C.17.3 (SR Document Content), C.18 (content item macros).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from simfrcnn.dicom_out.codes import Code

CONTAINS, HAS_PROPERTIES = "CONTAINS", "HAS PROPERTIES"
HAS_MODIFIER, HAS_ACQUISITION = "HAS CONCEPT MOD", "HAS ACQ CONTEXT"
HAS_OBSERVATION, INFERRED_FROM = "HAS OBS CONTEXT", "INFERRED FROM"
SELECTED_FROM = "SELECTED FROM"

Position = tuple[int, ...]
"""Of an item in its tree: the root is (1,), its second child (1, 2)."""


def container(
    relationship: str | None, name: Code, children: Sequence[Dataset], template: str | None = None
) -> Dataset:
    """A CONTAINER; without ``relationship`` the root of a tree."""
    item = _item(relationship, "CONTAINER", name, children)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identified = Dataset()
        identified.MappingResource = "DCMR"
        identified.TemplateIdentifier = template
        item.ContentTemplateSequence = [identified]
    return item


def coded(relationship: str, name: Code, value: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """A CODE."""
    item = _item(relationship, "CODE", name, children)
    item.ConceptCodeSequence = [value.item()]
    return item


def text(relationship: str, name: Code, value: str) -> Dataset:
    """A TEXT; characters beyond ASCII become escapes, so that every character set can hold it."""
    item = _item(relationship, "TEXT", name)
    item.TextValue = ascii_text(value)
    return item


def uid(relationship: str, name: Code, value: str) -> Dataset:
    """A UIDREF."""
    item = _item(relationship, "UIDREF", name)
    item.UID = value
    return item


def number(relationship: str, name: Code, value: str, unit: Code) -> Dataset:
    """A NUM; ``value`` as a decimal string."""
    item = _item(relationship, "NUM", name)
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [unit.item()]
    item.MeasuredValueSequence = [measured]
    return item


def image(relationship: str, reference: Dataset, children: Sequence[Dataset] = ()) -> Dataset:
    """An IMAGE."""
    item = _item(relationship, "IMAGE", None, children)
    item.ReferencedSOPSequence = [reference]
    return item


def coordinates(
    relationship: str,
    name: Code,
    graphic: str,
    points: Sequence[tuple[float, float]],
    children: Sequence[Dataset],
) -> Dataset:
    """A SCOORD: (column, row) points in pixels of the stored image."""
    item = _item(relationship, "SCOORD", name, children)
    item.GraphicType = graphic
    item.GraphicData = [axis for point in points for axis in point]
    return item


def by_reference(relationship: str, position: Position) -> Dataset:
    """A reference to another item of the same tree."""
    item = Dataset()
    item.RelationshipType = relationship
    item.ReferencedContentItemIdentifier = list(position)
    return item


def walk(item: Dataset, position: Position = (1,)) -> Iterator[tuple[Position, Dataset]]:
    """Every item of a tree with its position, parents first."""
    yield position, item
    for place, child in enumerate(item.get("ContentSequence") or (), start=1):
        yield from walk(child, (*position, place))


def concept_of(item: Dataset) -> tuple[str, str]:
    """Value and scheme of an item's concept name, empty where it has none."""
    return _code_in(item, "ConceptNameCodeSequence")


def value_of(item: Dataset) -> tuple[str, str]:
    """Value and scheme of the code that a CODE item holds, empty where it holds none."""
    return _code_in(item, "ConceptCodeSequence")


def ascii_text(value: str) -> str:
    """A text in the characters that every character set has."""
    return value.encode("ascii", "backslashreplace").decode()


def _code_in(item: Dataset, keyword: str) -> tuple[str, str]:
    for code in item.get(keyword) or ():
        return str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))
    return "", ""


def _item(
    relationship: str | None, value_type: str, name: Code | None, children: Sequence[Dataset] = ()
) -> Dataset:
    item = Dataset()
    if relationship is not None:
        item.RelationshipType = relationship
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [name.item()]
    if children:
        item.ContentSequence = list(children)
    return item
