"""What does a file say of its patient that may help to judge the picture? Age and sex, no more."""

from __future__ import annotations

import re

from simfrcnn.dicom.header import Header

AGE_STRING = re.compile(r"(\d{3})([DWMY])")
"""DICOM PS3.5 6.2: three digits and days, weeks, months or years."""
_YEARS = re.compile(r"0*(\d+?)(?:[.,]0+)?")
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
    old. What is no age stays as it is.

    >>> years_stated("58"), years_stated("58.0"), years_stated("058Y"), years_stated("414")
    ('58', '58', '58', '')
    """
    if AGE_STRING.fullmatch(text):
        return years_of(text) or ""
    number = _YEARS.fullmatch(text)
    if number is None:
        return text
    return number[1] if int(number[1]) <= OLDEST_YEARS else ""


def sex_of(header: Header) -> str | None:
    """Patient's Sex (0010,0040): F, M or O; None where it is absent or anything else."""
    stated = header.code("PatientSex")
    return stated if stated in _SEXES else None
