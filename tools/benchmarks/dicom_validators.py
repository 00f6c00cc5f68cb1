"""What do the validators say of a DICOM file: dciodvfy, dsrdump, and PixelMed's DicomSRValidator?

Each sees other faults: dciodvfy the modules and value types, dsrdump the relationships and
references of a content tree, PixelMed the templates.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = {
    "dicom3tools": "dciodvfy",
    "dcmtk": "dsrdump",
    "pixelmed": "DicomSRValidator",
    "orthanc": "Orthanc",
}
"""Service, as ``SIMFRCNN_REQUIRE_SERVICES`` names it -> the program that it brings."""
_JAVA_OPTIONS = " ".join(
    (
        *(f"-Djdk.xml.xpath{limit}=0" for limit in ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")),
        # Programs that run once: half of the processor time went to optimising them.
        *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
    )
)
_NOT_CHECKED = "W: Check for template constraints not yet supported"
"""What dsrdump says of every CAD SR: it knows no templates."""
_SLIPS_OF_PIXELMED = (
    '("Failed  Detections")',  # its template spells the meaning with two spaces
    '(130400,DCM,"Geometric purpose of region"): Content Item not in template',  # TID 1410 row 3c
)
"""Warnings of its release 20220618 that are its own mistakes."""


def is_installed(service: str) -> bool:
    """Whether the program of a service is there."""
    return shutil.which(PROGRAMS[service]) is not None


def dciodvfy(path: Path) -> list[str]:
    """The errors that dciodvfy finds."""
    return [line for line in _run("dciodvfy", "-new", str(path)) if line.startswith("Error")]


def dsrdump(path: Path) -> list[str]:
    """The errors and warnings of dsrdump, and its exit code where it is not 0."""
    done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()
    found = [line for line in said if line.startswith(("E:", "W:", "F:")) and line != _NOT_CHECKED]
    return found or ([f"exit code {done.returncode}"] if done.returncode else [])


def pixelmed(path: Path) -> list[str]:
    """The errors and warnings of PixelMed's DicomSRValidator; some 15 s a file."""
    lines = _run("DicomSRValidator", str(path))
    wrong = [
        line
        for line in lines
        if line.startswith(("Error", "Warning"))
        and not any(known in line for known in _SLIPS_OF_PIXELMED)
    ]
    is_whole = any(line.startswith("IOD validation complete") for line in lines)
    return wrong if wrong or is_whole else ["it did not end", *lines[-3:]]


def _run(*words: str) -> list[str]:
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": _JAVA_OPTIONS}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]
