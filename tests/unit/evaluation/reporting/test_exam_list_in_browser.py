"""The list of exams shows every id whole: study UIDs of one hospital differ at their end alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.settings import EvaluationSettings
from support.browser import opened
from support.evaluation_examples import detection_file, finding, found, grey_pictures, image

pytestmark = pytest.mark.browser

UIDS = [f"1.2.826.0.1.3680043.8.498.10024968013774561223405961230459812345{n}" for n in (1, 2, 3)]
CUT = """[...document.querySelectorAll('#exam-list .name span:first-child')].map(
  (name) => [name.textContent, name.scrollWidth > name.clientWidth, getComputedStyle(name).overflow,
    name.getBoundingClientRect().right <= name.closest('button').getBoundingClientRect().right])"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [
        replace(
            image(n, f"P{n}", *([finding((10, 10, 30, 30), n)] if n < 3 else [])),
            exam_id=uid,
        )
        for n, uid in enumerate(UIDS, start=1)
    ]
    detections = detection_file(*(found(n, ((10, 10, 30, 30), 0.9 / n)) for n in (1, 2, 3)))
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=0))
    return write_report(
        tmp_path_factory.mktemp("report"),
        report,
        records=records,
        detections=detections,
        load_pictures=grey_pictures,
    )


@pytest.mark.parametrize("width", [1300, 700])
def test_ids_that_differ_at_their_end_are_told_apart(
    browser: Any, page_file: Path, width: int
) -> None:
    with opened(browser, page_file, width=width) as page:
        names = page.evaluate(CUT)
    assert sorted(text for text, *_ in names) == UIDS
    for text, is_cut, overflow, is_inside in names:
        assert not is_cut, text
        assert overflow == "visible"
        assert is_inside, text
