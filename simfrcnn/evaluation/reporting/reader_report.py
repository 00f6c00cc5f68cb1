"""A model and readers as files: JSON for programs, Markdown and HTML for people, and exports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.readers import DATA, IMRMC, PAGE, RJAFROC, TEXT
from simfrcnn.evaluation.readers.exports import imrmc_file, rjafroc_file, why_no_workbook
from simfrcnn.evaluation.readers.obuchowski_rockette import Estimate
from simfrcnn.evaluation.readers.pathways import Pathway
from simfrcnn.evaluation.readers.study import FEWEST_READERS, AgainstReaders, ReaderStudy
from simfrcnn.evaluation.reporting.documents import DISCLAIMER, Section, Table, markdown_page
from simfrcnn.evaluation.reporting.page import NO_DATA, html_page
from simfrcnn.evaluation.reporting.wording import number, p_of
from simfrcnn.files import as_json, as_utf8, write_files
from simfrcnn.wording import counted

_TITLES = {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
_PARTS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "recall": "recalled",
    "read": "read by a person",
}
_DASH = "-"


def write_reader_study(folder: Path, study: ReaderStudy) -> Path:
    """Write the pages, the numbers and the exports; together or not at all.

    Without openpyxl the workbook for RJafroc is left out, which pages and numbers say; one of an
    earlier study in the folder is removed.

    Returns:
        The path of ``readers.html``.

    Raises:
        OutputError: The folder cannot be written.
    """
    sections = list(_sections(study))
    title = "The model and the readers"
    exports = {IMRMC: imrmc_file(study.readings, study.score_threshold)}
    if not notes_on_files():
        exports[RJAFROC] = rjafroc_file(study.readings, study.score_threshold)
    write_files(
        folder,
        {
            **exports,
            TEXT: as_utf8(markdown_page(title, sections)),
            PAGE: as_utf8(html_page(title, sections, {}, data=NO_DATA)),
            DATA: as_utf8(as_json({**study.to_json(), "rules": _rules(study)})),
        },
    )
    if RJAFROC not in exports:
        (folder / RJAFROC).unlink(missing_ok=True)
    return folder / PAGE


def notes_on_files() -> list[str]:
    """What :func:`write_reader_study` leaves out here, and why."""
    why = why_no_workbook()
    return [] if why is None else [why]


def summary_lines(study: ReaderStudy) -> list[str]:
    """The model less the readers, one line a figure, for a terminal."""
    return [
        f"{_title(each, study)}: model {cell(each.model)}, readers {cell(each.mean)}, model less "
        f"readers {cell(each.difference, signed=True)}, {', '.join(_shown(each, study))}"
        for each in study.against
    ]


def _sections(study: ReaderStudy) -> Iterator[Section]:
    rows = [
        (
            _title(each, study),
            cell(each.model),
            cell(each.mean),
            cell(each.difference, signed=True),
            _p_cell(each.difference),
            *_claim(each, study),
        )
        for each in study.against
    ]
    shown = () if study.margin is None else (f"shown, margin {study.margin:g}",)
    columns = ("figure", "model", "mean of the readers", "model less readers", "p", *shown)
    yield Section("Summary", [_what(study), Table(columns, rows), DISCLAIMER])
    yield Section("Reader by reader", [_reader_table(each, study) for each in study.against])
    if study.modalities:
        yield Section("Modalities", [_modality_table(study)])
    for modality, ways in study.pathways.items():
        of = f", {modality}" if len(study.pathways) > 1 else ""
        yield Section(f"With the model{of}", [*_pathway_tables(ways)])
    yield Section("Rules", [_rules(study)])


def _what(study: ReaderStudy) -> str:
    readings = study.readings
    n_positive = int(readings.is_positive.sum())
    n_normal = len(readings.cases) - n_positive
    left_out = (
        f" {counted(readings.n_unknown, '[case|cases]')} that were read are left out, as their "
        "truth is not known."
        if readings.n_unknown
        else ""
    )
    unread = (
        f" {counted(readings.n_unread, '[case|cases]')} of the test set were read by nobody."
        if readings.n_unread
        else ""
    )
    return (
        f"{counted(len(readings.readers), '[reader|readers]')} and the model on the same "
        f"{counted(len(readings.cases), '[case|cases]')} ({n_positive} positive, {n_normal} "
        f"normal).{left_out}{unread} Intervals are 95%."
    )


def _reader_table(each: AgainstReaders, study: ReaderStudy) -> Table:
    rows = [
        (
            reader,
            cell(own),
            cell(each.by_reader[reader], signed=True),
            _p_cell(each.by_reader[reader]),
            _DASH if math.isnan(each.p_holm[reader]) else p_of(each.p_holm[reader]),
        )
        for reader, own in each.readers.items()
    ]
    title = _title(each, study)
    return Table(("reader", title, "model less reader", "p", "p, Holm"), rows, title)


def _modality_table(study: ReaderStudy) -> Table:
    names = study.readings.modalities
    rows = [
        (
            _TITLES[figure],
            f"{names[one]} - {names[other]}",
            cell(estimate, signed=True),
            _number(estimate.df),
            _p_cell(estimate),
            _number(compared.f_value),
            _DASH if math.isnan(compared.p_value) else p_of(compared.p_value),
        )
        for figure, compared in study.modalities.items()
        for (one, other), estimate in compared.differences.items()
    ]
    columns = ("figure", "difference", "mean over readers", "df", "p", "F of all", "p of all")
    return Table(columns, rows)


def _pathway_tables(ways: list[Pathway]) -> Iterator[Table]:
    def row(name: str, figures: dict[str, Estimate], *, signed: bool) -> tuple[str, ...]:
        return (name, *(cell(figures[part], signed=signed) for part in _PARTS))

    columns = tuple(_PARTS.values())
    yield Table(("pathway", *columns), [row(w.name, w.figures, signed=False) for w in ways])
    yield Table(
        ("less readers alone", *columns),
        [row(w.name, w.differences, signed=True) for w in ways if w.differences],
    )


def _rules(study: ReaderStudy) -> list[str]:
    at = (
        "the mixture of these cases"
        if study.prevalence is None
        else f"a prevalence of {study.prevalence:.4g}"
    )
    return [
        "Mean of the readers, and the model less it: readers and cases are random (Obuchowski and "
        f"Rockette 1995, degrees of freedom of Hillis 2007 and 2014), covariances by "
        f"{study.covariance}. It speaks of other readers like these on other cases like these.",
        "One reader and one model: Clopper-Pearson, and for the AUC DeLong's variance on the "
        "logit. The model less one reader: cases are random, the reader is this one; p after "
        "Holm's adjustment is for all readers, also those without a p.",
        "Ratings in a few categories mostly have a lower empirical AUC than the same reading on a "
        "fine scale, as a model's is: part of a difference in AUC can be the scale's. A "
        "sensitivity is to be read with the specificity beside it.",
        f"No p with fewer than {FEWEST_CASES} positive or {FEWEST_CASES} normal cases, nor over "
        f"fewer than {FEWEST_READERS} readers.",
        *(
            []
            if study.margin is None
            else [
                "Shown: superior where the interval of the model less the readers is above 0, "
                "non-inferior where it is above minus the margin, equivalent where it lies within "
                "the margin on both sides. The margin must be stated before the results are seen."
            ]
        ),
        f"The model recalls from a score of {study.score_threshold:.4g} on. A threshold that was "
        "chosen on these cases makes it look better than it is.",
        f"Parts recalled and read by a person are at {at}. What a person need not read is the work "
        "saved. The pathways combine readings that were made without the model: what a reader "
        "would do who sees its marks, or knows that a case passed it, they do not say.",
        f"{IMRMC} holds the same readings for iMRMC, {RJAFROC} for RJafroc.",
        *notes_on_files(),
    ]


def cell(estimate: Estimate, *, signed: bool = False) -> str:
    """``0.912 (0.853 to 0.957)``, or a value without its interval."""
    if math.isnan(estimate.value):
        return "undefined"
    value, low, high = (
        number(each, signed=signed) for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} (no interval)" if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def _title(each: AgainstReaders, study: ReaderStudy) -> str:
    of = f", {each.modality}" if len(study.readings.modalities) > 1 else ""
    return f"{_TITLES[each.figure]}{of}"


def _claim(each: AgainstReaders, study: ReaderStudy) -> tuple[str, ...]:
    claim = study.claim_on(each)
    return () if claim is None else (claim,)


def _shown(each: AgainstReaders, study: ReaderStudy) -> tuple[str, ...]:
    """The p-value and what the margin shows, or why there is neither."""
    if math.isnan(each.difference.p_value):
        return (each.difference.reason or "no test",)
    return (f"p {p_of(each.difference.p_value)}", *_claim(each, study))


def _p_cell(estimate: Estimate) -> str:
    if math.isnan(estimate.p_value):
        return estimate.reason or _DASH
    return p_of(estimate.p_value)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else _DASH
