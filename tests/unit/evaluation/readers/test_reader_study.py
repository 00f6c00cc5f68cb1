"""Readers' CSV, the comparison with a model, pathways and exports."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from sklearn.metrics import roc_auc_score

from simfrcnn.errors import ConfigError, DataError
from simfrcnn.evaluation.ranking import holm
from simfrcnn.evaluation.readers.exports import imrmc_file, rjafroc_file
from simfrcnn.evaluation.readers.obuchowski_rockette import (
    Estimate,
    of_one,
    over_readers,
    share_cells,
)
from simfrcnn.evaluation.readers.readings import joined, read_readings
from simfrcnn.evaluation.readers.study import study_of
from simfrcnn.evaluation.reporting.reader_report import cell, summary_lines, write_reader_study
from simfrcnn.evaluation.reporting.wording import number
from simfrcnn.evaluation.results import UnitScore
from simfrcnn.workflows.readers import ReaderOptions

CASES = [
    UnitScore(f"E{n}", f"P{n}", "positive" if n <= 2 else "normal", score)
    for n, score in enumerate((0.9, 0.3, 0.6, 0.2, 0.1), 1)
]


def written(folder: Path, *rows: str) -> Path:
    path = folder / "readers.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def rows_of(recalls: dict[str, str]) -> list[str]:
    """``{"R1": "10100"}``: whom each reader recalls, case by case."""
    return [
        f"{reader},E{case},{recall}"
        for reader, own in recalls.items()
        for case, recall in enumerate(own, 1)
    ]


@pytest.fixture(scope="module")
def drawn():
    """Four readers, two modalities, 50 cases; the cases are hard for all alike."""
    random = np.random.default_rng(5)
    truth = np.arange(50) % 5 < 2
    common = random.normal(size=50) + 1.5 * truth
    ratings = np.clip(np.round(common + random.normal(size=(2, 4, 50)) + 2), 1, 5)
    scores = 1 / (1 + np.exp(-(common + random.normal(size=50)) / 2))
    return truth, ratings, scores


@pytest.fixture(scope="module")
def readings(drawn, tmp_path_factory):
    truth, ratings, scores = drawn
    rows = [
        f"R{j},E{k:02d},{ratings[i, j, k]:g},{('unaided', 'aided')[i]}"
        for i in range(2)
        for k in range(50)
        for j in range(4)
    ]
    path = written(tmp_path_factory.mktemp("readers"), "reader,case,rating,modality", *rows)
    units = [
        UnitScore(f"E{k:02d}", f"P{k}", "positive" if truth[k] else "normal", float(scores[k]))
        for k in range(50)
    ]
    units.append(UnitScore("E99", "P99", "normal", 0.5))
    return joined(path, read_readings(path, 3), units)


def test_readings_are_joined_with_the_cases(readings, drawn):
    truth, ratings, scores = drawn
    assert readings.modalities == ("unaided", "aided")
    assert readings.readers == ("R0", "R1", "R2", "R3")
    assert (readings.n_unknown, readings.n_unread) == (0, 1)
    assert np.array_equal(readings.ratings, ratings)
    assert np.array_equal(readings.recalls, ratings >= 3)
    assert np.array_equal(readings.is_positive, truth)
    assert np.array_equal(readings.scores, scores)


def test_model_and_readers_by_slow_formulas(readings, drawn):
    truth, ratings, scores = drawn
    study = study_of(readings, score_threshold=0.6)
    by_key = {(each.figure, each.modality): each for each in study.against}
    for place, modality in enumerate(("unaided", "aided")):
        auc = by_key["auc", modality]
        slow = [roc_auc_score(truth, row) for row in ratings[place]]
        assert [each.value for each in auc.readers.values()] == pytest.approx(slow)
        assert auc.model.value == pytest.approx(roc_auc_score(truth, scores))
        assert auc.difference.value == pytest.approx(auc.model.value - np.mean(slow))
        # The variance by leaving every case out of all figures at once.
        left_out = []
        for case in range(50):
            kept = np.delete(np.arange(50), case)
            own = [roc_auc_score(truth[kept], row[kept]) for row in ratings[place]]
            left_out.append(roc_auc_score(truth[kept], scores[kept]) - np.array(own))
        covariance = 49 / 50 * 49 * np.cov(np.array(left_out).T)
        common = covariance[~np.eye(4, dtype=bool)].mean()
        variance = np.var(slow, ddof=1) / 4 + max(common, 0)
        assert auc.difference.standard_error**2 == pytest.approx(variance)
        assert auc.by_reader["R2"].standard_error ** 2 == pytest.approx(covariance[2, 2])
        assert list(auc.p_holm.values()) == holm([e.p_value for e in auc.by_reader.values()])
        for name, kind, right, called in (
            ("sensitivity", truth, ratings[place] >= 3, scores >= 0.6),
            ("specificity", ~truth, ratings[place] < 3, scores < 0.6),
        ):
            each = by_key[name, modality]
            assert each.mean.value == pytest.approx(right[:, kind].mean())
            assert each.model.value == called[kind].mean()
            assert each.by_reader["R1"].value == pytest.approx(
                called[kind].mean() - right[1, kind].mean()
            )
    differences = study.modalities["auc"].differences[0, 1]
    means = [by_key["auc", modality].mean.value for modality in ("unaided", "aided")]
    assert differences.value == pytest.approx(means[0] - means[1])


def test_pathways_recall_whom_their_rule_recalls(readings, drawn):
    truth, ratings, scores = drawn
    study = study_of(readings, score_threshold=0.6, triage_below=(0.3,), prevalence=0.01)
    ways = {one.name.split(",")[0].split(" below")[0]: one for one in study.pathways["aided"]}
    recalls, model = ratings[1] >= 3, scores >= 0.6
    expected = {
        "readers alone": (recalls, np.ones_like(recalls)),
        "reader or model recalls": (recalls | model, np.ones_like(recalls)),
        "reader and model recall": (recalls & model, np.ones_like(recalls)),
        "triage: not read": (recalls & (scores >= 0.3), np.tile(scores >= 0.3, (4, 1))),
    }
    assert set(ways) == set(expected)
    for name, (recalled, read) in expected.items():
        figures = {key: each.value for key, each in ways[name].figures.items()}
        assert figures["sensitivity"] == pytest.approx(recalled[:, truth].mean())
        assert figures["specificity"] == pytest.approx(1 - recalled[:, ~truth].mean())
        for key, what in (("recall", recalled), ("read", read)):
            mixed = 0.01 * what[:, truth].mean() + 0.99 * what[:, ~truth].mean()
            assert figures[key] == pytest.approx(mixed)
    alone = share_cells(recalls, truth, 1, 0)
    both = share_cells(recalls | model, truth, 1, 0)
    difference = ways["reader or model recalls"].differences["sensitivity"]
    assert difference == over_readers(both - alone, "jackknife")
    assert ways["readers alone"].differences == {}
    # Without a prevalence the parts are those of these cases.
    here = study_of(readings, score_threshold=0.6, triage_below=(0.3,)).pathways["aided"][-1]
    assert here.figures["read"].value == pytest.approx((scores >= 0.3).mean())


def test_one_reader_is_compared_over_cases_alone(tmp_path):
    path = written(tmp_path, "reader,case,recall", *rows_of({"R1": "11010"}))
    readings = joined(path, read_readings(path), CASES)
    study = study_of(readings, score_threshold=0.5)
    sensitivity = study.against[0]
    assert (sensitivity.model.value, sensitivity.readers["R1"].value) == (0.5, 1.0)
    assert "single one" in str(sensitivity.difference.reason)
    assert "no test with fewer than 20" in str(sensitivity.by_reader["R1"].reason)
    cells = share_cells(np.array([[1, 1, 0, 1, 0]], dtype=bool), readings.is_positive, 0.4, 0.6)
    alone = study.pathways["readers"][0].figures["recall"]
    assert alone.value == pytest.approx(3 / 5)
    assert alone.standard_error == of_one(cells, "jackknife").standard_error


def p_values(content) -> list[float]:
    """All that stand anywhere in a report in JSON types."""
    if isinstance(content, list):
        return [p for each in content for p in p_values(each)]
    if not isinstance(content, dict):
        return []
    own = [content[key] for key in ("p_value", "p_holm") if content.get(key) is not None]
    return own + [p for each in content.values() for p in p_values(each)]


@pytest.mark.parametrize("n_readers", [1, 2, 3])
def test_nothing_is_tested_over_fewer_than_three_readers(readings, n_readers):
    few = dataclasses.replace(
        readings,
        readers=readings.readers[:n_readers],
        ratings=readings.ratings[:, :n_readers],
        recalls=readings.recalls[:, :n_readers],
    )
    content = study_of(few, score_threshold=0.6, triage_below=(0.3,)).to_json()
    for each in content["model_against_readers"]:
        # One reader is tested over cases alone.
        assert len(p_values(each["model_less_reader"])) == 2 * n_readers
        assert len(p_values(each["model_less_mean"])) == (n_readers >= 3)
        # Nobody asks whether an AUC or a sensitivity is 0.
        assert p_values([each["mean_of_readers"], each["readers"], each["model"]]) == []
    compared = content["modalities_compared"].values()
    assert len(p_values([*compared])) == (6 if n_readers >= 3 else 0)
    for each in compared:
        assert n_readers >= 3 or "fewer than 3 readers" in each["differences"][0]["reason"]
    alone, *ways = content["pathways"]["aided"]
    assert p_values([alone, *(way["figures"] for way in ways)]) == []
    assert bool(p_values(ways)) == (n_readers != 2)  # of one reader: over cases alone


def test_what_does_not_differ_is_not_below_0(tmp_path):
    path = written(tmp_path, HEAD, *rows_of({"R1": "11000", "R2": "11000"}))
    study = study_of(joined(path, read_readings(path), CASES), score_threshold=0.25)
    write_reader_study(tmp_path, study)
    assert (
        "| R1 | 1.000 (0.158 to 1.000) | +0.000 (no interval) |"
        in (tmp_path / "readers.md").read_text()
    )


def test_cases_of_unknown_truth_are_left_out_and_counted(tmp_path):
    path = written(tmp_path, "reader,case,recall", *rows_of({"R1": "110101", "R2": "100001"}))
    units = [*CASES, UnitScore("E6", "P6", "unknown", 0.8)]
    readings = joined(path, read_readings(path), units)
    assert readings.cases == ("E1", "E2", "E3", "E4", "E5")
    assert readings.n_unknown == 1


HEAD = "reader,case,recall"
GOOD = rows_of({"R1": "11010", "R2": "10000"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["reader;case;recall"], r"column 'reader;case;recall' is unknown; .*by commas"),
        (["reader,case,Recall"], r"column 'Recall' is unknown; legal .* \(did you mean 'recall'"),
        (["reader,case"], "a column 'rating' or 'recall' is missing"),
        (["case,recall"], "column 'reader' is missing"),
        ([HEAD], "there are no rows below"),
        ([HEAD, "R1,E1,2"], "row 2, column 'recall': '2' is neither 1"),
        ([HEAD, "R1,,1"], "row 2, column 'case': it is empty"),
        ([HEAD, "R1,E1"], "row 2: it has another number of columns"),
        ([HEAD, "R1,E1,1,1"], "row 2: it has another number of columns"),
        (["reader,case,rating", "R1,E1,high"], "row 2, column 'rating': 'high' is not a number"),
        (["reader,case,rating", "R1,E1,nan"], "row 2, column 'rating': 'nan' is not a number"),
        ([HEAD, "R\x071,E1,1"], r"row 2, column 'reader': 'R\\x071' holds a control character"),
        ([HEAD, "model,E1,1"], "row 2, column 'reader': 'model' stands for the model in the files"),
        ([HEAD, "-1,E1,1"], "row 2, column 'reader': '-1' stands for the truth in the files"),
        ([f"{HEAD},modality", "R1,E1,1,truth"], "column 'modality': 'truth' stands for the truth"),
        ([HEAD, *GOOD, "R1,E7,1"], "row 12, column 'case': the test set has no case 'E7'"),
        ([HEAD, *GOOD, "R1,E5,1"], "rows 6 and 12 are of the same case, 'E5', and reader, 'R1'"),
        ([HEAD, *GOOD[:-1]], "reader 'R2' did not read case 'E5', which others did"),
        ([HEAD, "R1,E1,1", "R1,E3,0"], "1 positive and 1 normal cases of known truth were read"),
    ],
)
def test_bad_files_are_refused_by_row_and_column(tmp_path, rows, message):
    path = written(tmp_path, *rows)
    with pytest.raises(DataError, match=message) as error:
        joined(path, read_readings(path), CASES)
    assert str(path) in str(error.value)


def test_cases_of_one_patient_are_refused(tmp_path):
    path = written(tmp_path, HEAD, *GOOD)
    units = [UnitScore(one.unit_id, "P1", one.truth, one.score) for one in CASES]
    with pytest.raises(DataError, match=r"'E1' and 'E2' are of one patient.*--case-by patient"):
        joined(path, read_readings(path), units)
    with pytest.raises(DataError, match="case 'E1' is of two patients"):
        joined(path, read_readings(path), [*CASES, UnitScore("E1", "P9", "normal", 0.1)])


def test_options_that_cannot_be_meant_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--recall-from: there are no readers"):
        ReaderOptions(recall_from=3)
    with pytest.raises(ConfigError, match="--recall-from is nan; legal is a rating"):
        ReaderOptions(readers="readers.csv", recall_from=float("nan"))
    path = written(tmp_path, HEAD, *GOOD)
    with pytest.raises(DataError, match=r"readers\.csv: it has no column 'rating'; --recall-from"):
        read_readings(path, 2)
    path = written(tmp_path, "reader,case,recall,rating", "R1,E1,1,4")
    with pytest.raises(DataError, match=r"readers\.csv: it has a column 'recall' of its own; "):
        read_readings(path, 2)


def test_the_export_for_imrmc_holds_every_reading(readings, drawn):
    truth, ratings, scores = drawn
    head, data = imrmc_file(readings, 0.6).decode().split("BEGIN DATA:\n")
    assert head.splitlines()[1:] == ["N0: 30", "N1: 20", "NR: 4", "NM: 3"]
    rows = [line.split(",") for line in data.splitlines()]
    assert [int(row[3]) for row in rows[:50]] == truth.astype(int).tolist()
    assert all(row[0] == row[2] == "truth" for row in rows[:50])
    values = {tuple(row[:3]): float(row[3]) for row in rows[50:]}
    assert len(values) == len(rows) - 50 == 3 * 4 * 50
    # iMRMC has no variance of a modality with one reader: each reader has the model's scores.
    assert {reader for reader, _, _ in values} == {"R0", "R1", "R2", "R3"}
    for reader in ("R0", "R3"):
        assert values[reader, "E07", "model"] == scores[7]
    assert values["R3", "E07", "aided"] == ratings[1, 3, 7]


def test_scores_that_differ_little_are_no_ties_for_imrmc(readings):
    near = 0.7 + np.arange(50) * 1e-15
    close = dataclasses.replace(readings, scores=near)
    rows = [line.split(",") for line in imrmc_file(close, 0.6).decode().splitlines()]
    written_out = [row[3] for row in rows if row[0] == "R1" and row[2] == "model"]
    assert [float(value) for value in written_out] == near.tolist()


def test_the_export_for_rjafroc_is_a_crossed_roc_data_set(readings, drawn):
    _, ratings, scores = drawn
    book = openpyxl.load_workbook(io.BytesIO(rjafroc_file(readings, 0.6)))
    # DfReadDataFile looks for its three sheets among the first three names in order.
    assert sorted(name.upper() for name in book.sheetnames)[:3] == ["FP", "TP", "TRUTH"]
    sheets = {ws.title: [*ws.iter_rows(values_only=True)] for ws in book}
    truth = sheets["TRUTH"]
    assert truth[0] == ("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm")
    assert truth[1] == (1, 0, 0, "0,1,2,3,4", "0,1", "ROC")
    assert truth[2][5] == "FCTRL"
    assert [row[1] for row in truth[1:]] == [0] * 30 + [1] * 20
    who = {(what, number): name for what, number, name in sheets["WHO IS WHO"][1:]}
    assert who["reader", 0] == "model"
    assert (len(sheets["FP"]) - 1, len(sheets["TP"]) - 1) == (2 * 5 * 30, 2 * 5 * 20)
    for reader, modality, case, *_, value in sheets["TP"][1:]:
        place = int(who["case", case][1:])
        own = scores[place] if reader == 0 else ratings[modality, reader - 1, place]
        assert value == pytest.approx(own)


def test_rjafroc_sorts_ten_readers_and_more_as_the_truth_has_them(readings):
    """It names readers by the sorted columns, and has their ratings in the order of TRUTH."""
    many = dataclasses.replace(
        readings,
        readers=tuple(f"R{j}" for j in range(12)),
        ratings=np.tile(readings.ratings, (1, 3, 1)),
    )
    book = openpyxl.load_workbook(io.BytesIO(rjafroc_file(many, 0.6)))
    in_truth = book["TRUTH"]["D2"].value.split(",")
    for name in ("FP", "TP"):
        found = {row[0] for row in book[name].iter_rows(min_row=2, values_only=True)}
        assert [str(number) for number in sorted(found)] == in_truth == [*map(str, range(13))]


def test_decisions_alone_are_exported_as_ones_and_zeros(tmp_path):
    path = written(tmp_path, HEAD, *GOOD)
    readings = joined(path, read_readings(path), CASES)
    data = imrmc_file(readings, 0.5).decode().split("BEGIN DATA:\n")[1].splitlines()
    own = [line for line in data if line.startswith("R1,") and ",model," in line]
    assert own == [f"R1,E{n},model,{call}" for n, call in enumerate("10100", 1)]


def test_names_reach_other_programs_as_they_can_read_them(tmp_path):
    """iMRMC cuts at commas and drops spaces; a spreadsheet computes what begins with =."""
    readers = {'"Dr. A, B"': "11010", "Dr. A B": "10000", "=1+1": "10100"}
    path = written(tmp_path, HEAD, *rows_of(readers))
    readings = joined(path, read_readings(path), CASES)
    assert readings.readers == ("Dr. A, B", "Dr. A B", "=1+1")
    data = imrmc_file(readings, 0.5).decode().split("BEGIN DATA:\n")[1].splitlines()
    assert {line.count(",") for line in data} == {3}
    assert {line.split(",")[0] for line in data[5:]} == {"Dr._A_B", "Dr._A_B_2", "=1+1"}
    assert data[20:25] == [f"Dr._A_B,E{n},readers,{call}" for n, call in enumerate("11010", 1)]
    book = openpyxl.load_workbook(io.BytesIO(rjafroc_file(readings, 0.5)))
    names = [row[2] for row in book["WHO IS WHO"].iter_rows(min_row=2, max_row=5)]
    assert [(cell.value, cell.data_type) for cell in names] == [
        (name, "s") for name in ("model", "Dr. A, B", "Dr. A B", "=1+1")
    ]


def test_a_margin_says_what_is_shown_against_the_readers(readings):
    wide = study_of(readings, score_threshold=0.6, margin=0.4)
    narrow = study_of(readings, score_threshold=0.6, margin=1e-6)
    for each, other in zip(wide.against, narrow.against, strict=True):
        low, high = each.difference.low, each.difference.high
        start = "superior" if low > 0 else "non-inferior" if low > -0.4 else ""
        same = "equivalent" if low > -0.4 and high < 0.4 else ""
        expected = ", ".join(word for word in (start, same) if word) or "not shown"
        assert wide.claim_on(each) == expected
        assert narrow.claim_on(other) == ("superior" if low > 0 else "not shown")
    assert {wide.claim_on(each) for each in wide.against} & {"non-inferior, equivalent"}
    assert all("shown" in one for one in wide.to_json()["model_against_readers"])
    assert study_of(readings, score_threshold=0.6).claim_on(wide.against[0]) is None


def test_nothing_is_shown_by_few_cases(tmp_path):
    path = written(tmp_path, HEAD, *rows_of({"R1": "11010", "R2": "10000", "R3": "10100"}))
    study = study_of(joined(path, read_readings(path), CASES), score_threshold=0.5, margin=0.9)
    claim = study.claim_on(study.against[0])
    assert claim == "no test with fewer than 20 positive and 20 normal cases"


def test_the_files_and_the_terminal(readings, tmp_path):
    study = study_of(readings, score_threshold=0.6)
    page = write_reader_study(tmp_path, study)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("readers.html", "readers.md", "readers.json", "readers.imrmc", "readers_rjafroc.xlsx")
    }
    assert page.read_text().startswith("<!")
    text = (tmp_path / "readers.md").read_text()
    content = json.loads((tmp_path / "readers.json").read_text())
    first = content["model_against_readers"][0]
    assert (first["figure"], first["modality"]) == ("auc", "unaided")
    assert f"{first['model_less_mean']['value']:+.3f} (" in text
    assert content["cases"] == {
        "positive": 20, "normal": 30, "read_but_of_unknown_truth": 0, "not_read": 1
    }  # fmt: skip
    assert len(content["pathways"]["aided"]) == 4
    lines = summary_lines(study)
    assert len(lines) == 6
    assert lines[0].startswith("AUC, unaided: model 0.")


def test_a_difference_of_nothing_has_no_minus_and_an_end_beside_0_keeps_its_sign():
    for nothing in (0.0, -0.0, -1e-17):
        assert cell(Estimate(nothing, -0.1, 0.1), signed=True) == "+0.000 (-0.100 to +0.100)"
        assert number(nothing, signed=True) == "+0.000"
        assert number(nothing) == "0.000"
    assert cell(Estimate(-0.1, -0.2, -0.0004), signed=True) == "-0.100 (-0.200 to -0.000)"
    assert cell(Estimate(-0.0006), signed=True) == "-0.001 (no interval)"


@pytest.mark.parametrize("margin", [None, 0.1])
def test_the_terminal_says_once_why_there_is_no_p(readings, margin):
    two = dataclasses.replace(
        readings,
        readers=readings.readers[:2],
        ratings=readings.ratings[:, :2],
        recalls=readings.recalls[:, :2],
    )
    for line in summary_lines(study_of(two, score_threshold=0.6, margin=margin)):
        assert line.endswith("), no test with fewer than 3 readers")
        assert line.count("no test") == 1
