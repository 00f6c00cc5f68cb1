"""Age and sex of a file: what is taken, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.data.sources.facts import facts_of
from support.data_examples import write_dicom

pytestmark = pytest.mark.data
PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of values that are not legal
@pytest.mark.parametrize(
    ("tags", "person"),
    [
        ({"PatientAge": "057Y", "PatientSex": "F"}, {"age": "57", "sex": "F"}),
        ({"PatientAge": "103Y", "PatientSex": "m"}, {"age": "103", "sex": "M"}),
        ({"PatientAge": "024M", "PatientSex": "O"}, {"age": "2", "sex": "O"}),
        ({"PatientAge": "053W"}, {"age": "1"}),
        ({"PatientAge": "364D"}, {"age": "0"}),
        ({"PatientAge": "000Y", "PatientSex": ""}, {}),
        ({"PatientAge": "999Y", "PatientSex": "F"}, {"sex": "F"}),
        ({"PatientAge": "57", "PatientSex": "FEMALE"}, {}),
        ({"PatientBirthDate": "19570312", "StudyDate": "20200101"}, {}),
    ],
)
def test_age_in_years_and_sex(tmp_path: Path, tags: dict[str, Any], person: dict[str, str]) -> None:
    plain = {"PatientAge": None, "PatientSex": None}
    facts = facts_of(write_dicom(tmp_path / "v.dcm", PIXELS, **plain | tags))
    assert facts.person == person
    assert not {"age", "sex"} & set(facts.attributes)
