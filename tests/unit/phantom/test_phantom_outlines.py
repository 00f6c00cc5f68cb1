"""The annotation files with outlines beside a data set that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from simfrcnn.data.coco import read_coco
from simfrcnn.images.reading import load_greys
from simfrcnn.outlines import rle_of
from simfrcnn.phantom.generate import OUTLINED, write_outlined


def test_outlines_are_written_beside_and_enclose_the_masses(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_folder, folder)
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    assert [path.name for path in write_outlined(folder)] == list(OUTLINED)
    assert {path: path.read_bytes() for path in before} == before
    plain, outlined = (read_coco(folder / f"train{end}.json") for end in ("", "_outlines"))
    n_findings = 0
    for one, other in zip(plain.records, outlined.records, strict=True):
        assert [f.box for f in one.findings] == [f.box for f in other.findings]
        if not other.findings:
            continue
        grey = load_greys(other).as_uint8().astype(float)
        for finding in other.findings:
            n_findings += 1
            inside = rle_of(finding.outline, other.height, other.width).to_array()
            x1, y1, x2, y2 = map(int, finding.box)
            around = np.zeros_like(inside)
            around[y1:y2, x1:x2] = True
            assert grey[inside].mean() > grey[around & ~inside].mean()  # a mass is bright
    assert n_findings == 6
