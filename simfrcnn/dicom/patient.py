"""What does a file say of its patient that may help to judge the picture? Age and sex, no more."""

from __future__ import annotations

import re
from collections.abc import Mapping

from simfrcnn.dicom.header import Header

AGE_STRING = re.compile(r"(\d{3})([DWMY])")
"""DICOM PS3.5 6.2: three digits and days, weeks, months or years."""
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_YEAR = 365.25
OLDEST_YEARS = 122
"""Nobody is known to have lived to be older: a higher age is a slip, such as 414 for 41."""
_SEXES = frozenset("FMO")


def age_of(header: Header) -> str | None:
    """Patient's Age (0010,1010) in whole years; None where it is absent or no legal value.

    Dates are not asked: that of birth leads to the patient.

    Reference:
        DICOM PS3.5 6.2, Age String: three digits and D, W, M or Y.
    """
    return years_of(header.code("PatientAge") or "")


def years_of(age: str) -> str | None:
    """Whole years of an Age String such as ``058Y`` or ``013M``; None where it is none, 0, or more
    than :data:`OLDEST_YEARS`.
    """
    match = AGE_STRING.fullmatch(age)
    if match is None or int(match[1]) == 0:  # 000Y is what scrubbed files say
        return None
    years = int(int(match[1]) * _DAYS[match[2]] / _YEAR + 1e-9)
    return str(years) if years <= OLDEST_YEARS else None


def years_stated(text: str) -> str:
    """An age as a table states it, in whole years; nothing where nobody is known to have been so
    old. What is no number stays as it is, without blanks round it.

    >>> years_stated("58"), years_stated("58.0"), years_stated("058Y"), years_stated("414")
    ('58', '58', '58', '')
    >>> years_stated("60,5"), years_stated("nan"), years_stated("50-59")
    ('60', '', '50-59')
    """
    text = text.strip()
    if AGE_STRING.fullmatch(text.upper()):
        return years_of(text.upper()) or ""
    try:
        years = float(text.replace(",", "."))
    except ValueError:
        return text
    return str(int(years)) if 0 <= years < OLDEST_YEARS + 1 else ""


def with_whole_years(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes with :func:`years_stated` of `age`, in any capitals; empty ones are left out."""
    texts = {
        name: years_stated(text) if name.casefold() == "age" else text
        for name, text in attributes.items()
    }
    return {name: text for name, text in texts.items() if text.strip()}


def sex_of(header: Header) -> str | None:
    """Patient's Sex (0010,0040): F, M or O; None where it is absent or anything else."""
    stated = header.code("PatientSex")
    return stated if stated in _SEXES else None
