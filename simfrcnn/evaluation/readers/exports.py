"""The readings as files of other programs: iMRMC and RJafroc."""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.readers import RJAFROC
from simfrcnn.evaluation.readers.readings import MODEL, TRUTH, Readings

_TO_IMRMC = re.compile(r'[\s,"]+')


def imrmc_file(readings: Readings, score_threshold: float) -> bytes:
    """The format of iMRMC: truth, then one line a reading; the model is a modality of its own.

    The model's scores stand below each reader's name: all readers read with it and agree. iMRMC
    has no variance over readers for a modality with only one and ends with an error there. Pairs
    of readers give the difference of the model and the readers, with both random, as
    :class:`~simfrcnn.evaluation.readers.study.AgainstReaders` has it.

    Ratings are written where there are any, else recalls as 1 and 0, the model's too. iMRMC cuts
    lines at every comma and drops all spaces, so that ``_`` stands for these in names. Numbers
    have all their digits: scores that differ must not become ties.

    Reference:
        iMRMC User Guide, "Input file"; https://github.com/DIDSR/iMRMC.
    """
    text = io.StringIO()
    n_positive = int(readings.is_positive.sum())
    text.write("Readings and a model, written by simfrcnn\n")
    text.write(f"N0: {len(readings.cases) - n_positive}\nN1: {n_positive}\n")
    text.write(f"NR: {len(readings.readers)}\nNM: {len(readings.modalities) + 1}\n")
    text.write("BEGIN DATA:\n")
    writer = csv.writer(text, lineterminator="\n")
    own_case, own_reader, own_modality = (
        _plain(names) for names in (readings.cases, readings.readers, (MODEL, *readings.modalities))
    )
    for case, is_positive in zip(readings.cases, readings.is_positive, strict=True):
        writer.writerow((TRUTH, own_case[case], TRUTH, int(is_positive)))
    for modality, reader, case, value in _values(readings, score_threshold):
        for one in own_reader.values() if reader == MODEL else (own_reader[reader],):
            words = (one, own_case[case], own_modality[modality])
            writer.writerow((*words, repr(value).removesuffix(".0")))
    return text.getvalue().encode()


def rjafroc_file(readings: Readings, score_threshold: float) -> bytes:
    """An Excel file that RJafroc's ``DfReadDataFile`` reads as a crossed ROC data set.

    RJafroc numbers cases, modalities and readers. The numbers of modalities and readers are
    numbers, not text, in the sheets of ratings: RJafroc sorts these columns for the names, and as
    text 10 would come before 2, so that each had another's ratings. The sheet ``WHO IS WHO``, which
    it does not read, says whose the numbers are (its name must come after those of the others). The
    model is the first reader, with every modality, as ``StCadVsRad`` wants it;
    ``DfExtractDataset(rdrs = -1)`` leaves it out.

    Raises:
        ConfigError: openpyxl is not installed; names the extra.

    Reference:
        RJafroc, ``DfReadDataFile`` and "The RJafroc Quick Start Book", chapter on the data file.
    """
    openpyxl = _import_openpyxl()
    readers = (MODEL, *readings.readers)
    is_positive = dict(zip(readings.cases, readings.is_positive.tolist(), strict=True))
    normal_first = sorted(readings.cases, key=lambda case: (is_positive[case], case))
    numbers = {case: number for number, case in enumerate(normal_first, start=1)}
    own_reader = {name: place for place, name in enumerate(readers)}
    own_modality = {name: place for place, name in enumerate(readings.modalities)}
    everybody, with_all = (",".join(map(str, own.values())) for own in (own_reader, own_modality))
    book = openpyxl.Workbook()
    book.remove(book.active)
    false = book.create_sheet("FP")
    false.append(("ReaderID", "ModalityID", "CaseID", "FP_Rating"))
    true = book.create_sheet("TP")
    true.append(("ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating"))
    truth = book.create_sheet("TRUTH")
    truth.append(("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm"))
    for case, number in numbers.items():
        kind = int(is_positive[case])
        row = (number, kind, kind, everybody, with_all)
        truth.append((*row, {1: "ROC", 2: "FCTRL"}.get(number)))
    for modality, reader, case, value in _values(readings, score_threshold):
        for place in own_modality.values() if reader == MODEL else (own_modality[modality],):
            start = (own_reader[reader], place, numbers[case])
            if is_positive[case]:
                true.append((*start, 1, value))
            else:
                false.append((*start, value))
    names = book.create_sheet("WHO IS WHO")
    names.append(("What", "Number", "Name"))
    tables: dict[str, Mapping[str, int]] = {
        "reader": own_reader,
        "modality": own_modality,
        "case": numbers,
    }
    for what, table in tables.items():
        for name, own in table.items():
            names.append((what, own, name))
            names.cell(names.max_row, 3).data_type = "s"  # a name such as =A1 is no formula
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def why_no_workbook() -> str | None:
    """Why :func:`rjafroc_file` has no file here, and what to do; None where it has one."""
    try:
        _import_openpyxl()
    except ConfigError as error:
        return str(error)
    return None


def _import_openpyxl() -> Any:
    """The library of the extra ``xlsx``: a plain install has none."""
    try:
        return importlib.import_module("openpyxl")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "openpyxl":
            raise
        raise ConfigError(
            f"{RJAFROC} is left out: Excel files need openpyxl, which is not installed. "
            "pip install 'simfrcnn[xlsx]', and run this again"
        ) from error


def _values(readings: Readings, threshold: float) -> Iterator[tuple[str, str, str, float]]:
    """Modality, reader, case and value, the model's first."""
    if readings.ratings is not None:
        values, own = readings.ratings, readings.scores
    else:
        assert readings.recalls is not None  # the file has one of the two columns
        values = readings.recalls.astype(np.float64)
        own = (readings.scores >= threshold).astype(np.float64)
    for case, value in zip(readings.cases, own.tolist(), strict=True):
        yield MODEL, MODEL, case, value
    for modality, table in zip(readings.modalities, values, strict=True):
        for reader, row in zip(readings.readers, table, strict=True):
            for case, value in zip(readings.cases, row.tolist(), strict=True):
                yield modality, reader, case, value


def _plain(names: Sequence[str]) -> dict[str, str]:
    """Each name as iMRMC can read it; where two would become one, the later has a number."""
    plain: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        word = start = _TO_IMRMC.sub("_", name)
        number = 1
        while word in taken:
            number += 1
            word = f"{start}_{number}"
        plain[name] = word
        taken.add(word)
    return plain
