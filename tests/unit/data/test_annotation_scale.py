"""What a large annotation file costs: load, check and split, in time and memory.

`SIMFRCNN_SCALE_IMAGES=100000 pytest -s tests/unit/data/test_annotation_scale.py` prints the figures
of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

N_IMAGES = int(os.environ.get("SIMFRCNN_SCALE_IMAGES", "20000"))
N_FILES = 1000
MAXIMUM_SECONDS = N_IMAGES * 3e-4
MAXIMUM_MIB = 256 + N_IMAGES * 0.018

# A process of its own: memory is that of nobody else. Prints one line of JSON.
SCRIPT = """
import json, re, resource, sys, time
from pathlib import Path
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.selection import training_lists
from simfrcnn.data.splits import assert_no_patient_leak, split_by_patient
from simfrcnn.settings import DataSettings

path, seconds = Path(sys.argv[1]), {}
def timed(name, function, *arguments, **options):
    start = time.process_time()
    value = function(*arguments, **options)
    seconds[name] = time.process_time() - start
    return value

data = timed("load and check", read_coco, path)
splits = timed("split", split_by_patient, data.records, {"train": .6, "val": .2, "test": .2}, 0)
timed("check for leaks", assert_no_patient_leak, splits)
lists = timed("training lists", training_lists, splits["train"], DataSettings())
seconds_needed = sum(seconds.values())
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss is that of the starting process where that is larger
    mib = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 2**10
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
for name, records in splits.items():
    timed(f"write {name}", write_coco, path.with_name(f"{name}.json"), records, data.categories, {})
print(json.dumps({
    "seconds": seconds,
    "seconds_needed": seconds_needed,
    "mib": mib,
    "n": {name: len(records) for name, records in splits.items()},
    "n_positives": len(lists.positives),
    "n_normals": len(lists.normals),
}))
"""


def image(number: int) -> dict[str, Any]:
    """One of four views of an exam; every fifth exam has a cancer, boxed in every view."""
    exam = number // 4
    return {
        "id": number + 1,
        "file_name": f"images/{number % N_FILES:06d}.png",
        "height": 3328,
        "width": 2560,
        "patient_id": f"patient-{exam // 2:08d}",
        "exam_id": f"exam-{exam:08d}",
        "laterality": "LR"[number % 2],
        "view_position": ("CC", "MLO")[number // 2 % 2],
        "pixel_spacing_mm": [0.07, 0.07],
        "pathology": "normal" if exam % 5 else "malignant",
        "supervision": "normal" if exam % 5 else "boxes",
        "split": None,
        "attributes": {"density": "ABCD"[exam % 4], "manufacturer": "Siemens"},
    }


def annotation(number: int, image_id: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [100.5, 200.25, 300.0, 400.0],
        "area": 120000.0,
        "iscrowd": 0,
        "pathology": "malignant",
        "lesion_id": f"lesion-{number}",
        "source": "radiologist",
        "score": None,
    }


def write_set(folder: Path) -> Path:
    images = [image(number) for number in range(N_IMAGES)]
    positive = [entry["id"] for entry in images if entry["supervision"] == "boxes"]
    document = {
        "info": {"description": "scale"},
        "images": images,
        "annotations": [annotation(number, i) for number, i in enumerate(positive, start=1)],
        "categories": [{"id": 1, "name": "malignant"}],
    }
    (folder / "images").mkdir()
    for number in range(N_FILES):
        (folder / "images" / f"{number:06d}.png").touch()
    path = folder / "set.json"
    path.write_text(json.dumps(document, indent=1))
    return path


@pytest.mark.slow
def test_seconds_and_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(write_set(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    figures = json.loads(done.stdout)
    print(json.dumps(figures, indent=1))
    assert sum(figures["n"].values()) == N_IMAGES
    assert figures["n"]["train"] == pytest.approx(0.6 * N_IMAGES, abs=8)
    assert figures["n_positives"] == pytest.approx(0.12 * N_IMAGES, rel=0.1)
    assert figures["n_positives"] + figures["n_normals"] == figures["n"]["train"]
    assert figures["seconds_needed"] < MAXIMUM_SECONDS
    assert figures["mib"] < MAXIMUM_MIB
