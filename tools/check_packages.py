"""Do the packages in a folder hold what they must, and nothing else? Lists what they hold.

python tools/check_packages.py dist
"""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("tests", "tools", "docs", "design", "datasets", "shared", "weights", "output")
"""Folders of a checkout that are in no package."""
NO_WEIGHTS = (".pth", ".pkl", ".pt", ".ckpt", ".onnx", ".dcm", ".png", ".jpg", ".ipynb")


def needed() -> set[str]:
    """Files that both packages must hold: all that lie in the checkout below ``simfrcnn``.

    What Python leaves there and hidden files are not of the package. ``simfrcnn/configs`` is a link
    to the configs at the top.
    """
    files = {
        path.relative_to(ROOT).as_posix()
        for folder, _, names in os.walk(ROOT / "simfrcnn")
        for path in (Path(folder, name) for name in names)
        if path.suffix != ".pyc" and not path.name.startswith(".")
    }
    configs = {
        f"simfrcnn/configs/{path.relative_to(ROOT / 'configs').as_posix()}"
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    return files | configs


def names_in(path: Path) -> set[str]:
    """The files of a wheel or sdist, without the folder that an sdist begins with."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(path) as sdist:
        return {member.name.partition("/")[2] for member in sdist if not member.isdir()}


def faults_of(path: Path) -> list[str]:
    """What is missing in a package, and what must not be there."""
    names = names_in(path)
    missing = sorted(needed() - names)
    if path.suffix != ".whl":  # there, the configs lie at the top and are linked to
        missing = [name for name in missing if name.removeprefix("simfrcnn/") not in names]
    too_much = sorted(
        name
        for name in names
        if name.partition("/")[0] in OUTSIDE or name.endswith(NO_WEIGHTS) or "__pycache__" in name
    )
    return [f"{name} is missing" for name in missing] + [
        f"{name} must not be there" for name in too_much
    ]


def listing_of(path: Path) -> str:
    """How many files of each kind, and how large the package is."""
    kinds = Counter(Path(name).suffix or "other" for name in names_in(path))
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB; {counts}"


def main(folder: Path) -> int:
    """Print what the packages of a folder hold; 1 where something is wrong."""
    packages = [*sorted(folder.glob("*.whl")), *sorted(folder.glob("*.tar.gz"))]
    if {path.suffix for path in packages} != {".whl", ".gz"}:
        print(f"error: {folder} must hold a wheel and an sdist: make dist", file=sys.stderr)
        return 1
    faults = [f"{path.name}: {fault}" for path in packages for fault in faults_of(path)]
    print("\n".join([listing_of(path) for path in packages] + faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
