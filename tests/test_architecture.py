"""The boundaries between packages, as a table that fails when somebody crosses one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "simfrcnn"
EVERYWHERE = {
    *("errors", "records", "described", "settings", "fields", "files", "grading_settings"),
    *("classifier_settings", "evaluation_settings", "image_labels", "image_names"),
    *("input_settings", "label_settings", "labels", "locks", "outlines", "parallel", "registry"),
    *("second_look_settings", "trees", "version", "wording", "write_errors", "yaml_text"),
}
STANDARD = set(sys.stdlib_module_names) | {"__future__"}

# package, or part of one -> (what it may import from simfrcnn, what from outside)
ALLOWED = {
    "errors": (set(), set()),
    "records": (set(), set()),
    "described": (set(), set()),
    "settings": (set(), set()),
    "second_look_settings": (set(), set()),
    "detection_entries": (set(), {"numpy"}),
    "classifier_settings": (set(), set()),
    "input_settings": (set(), set()),
    "evaluation_settings": (set(), set()),
    "fields": (set(), set()),
    "files": (set(), set()),
    "grading_settings": (set(), set()),
    "image_labels": (set(), set()),
    "image_names": (set(), set()),
    "label_settings": (set(), set()),
    "labels": (set(), set()),
    "locks": (set(), set()),
    "outlines": (set(), {"cv2", "numpy", "pycocotools"}),
    "parallel": (set(), {"cv2", "tqdm"}),
    "registry": (set(), set()),
    "trees": (set(), set()),
    "version": (set(), set()),
    "wording": (set(), set()),
    "write_errors": (set(), set()),
    "yaml_text": (set(), {"yaml"}),
    "zoo": (set(), set()),
    "structures": (set(), {"torch"}),
    "artifacts": ({"detection_entries"}, {"numpy"}),
    "config": (set(), {"fvcore", "yaml"}),
    "dicom": (set(), {"numpy", "pydicom", "cv2"}),
    "images": ({"dicom", "structures"}, {"numpy", "cv2", "torch", "PIL"}),
    "data": ({"dicom", "images"}, {"numpy", "cv2", "sklearn", "tqdm"}),
    "data/sources": (
        {"data", "dicom", "images"},
        {"numpy", "cv2", "tqdm", "yaml", "openpyxl", "pycocotools"},
    ),
    "data/inspect": (
        {"data", "dicom", "images", "structures", "training"},
        {"numpy", "cv2", "torch", "sklearn", "matplotlib"},
    ),
    "dicom_out": ({"dicom"}, {"numpy", "pydicom"}),
    "exam": ({"dicom", "dicom_out", "images"}, {"numpy"}),
    "decision": ({"evaluation", "exam"}, set()),
    "detector": (
        {
            *("config", "data", "decision", "dicom", "engines", "evaluation", "exam", "images"),
            *("structures", "zoo"),
        },
        {"numpy", "torch", "yaml"},
    ),
    "phantom": (set(), {"numpy", "pydicom", "cv2", "tqdm"}),
    "sampling": ({"structures"}, {"numpy", "scipy", "torch"}),
    "losses": ({"structures", "sampling"}, {"torch"}),
    "second_look": ({"images", "structures", "losses"}, {"torch"}),
    "evaluation": (
        {"artifacts", "viewer"},
        {"numpy", "scipy", "sklearn", "pycocotools", "matplotlib", "jinja2", "markupsafe"},
    ),
    "combining": ({"artifacts", "evaluation"}, {"numpy", "scipy", "sklearn"}),
    "evaluation/readers": ({"evaluation"}, {"numpy", "scipy", "openpyxl"}),
    "viewer": (set(), set()),
    "service": (
        {
            *("data", "detector", "dicom", "dicom_out", "exam", "images", "phantom", "viewer"),
            "workflows",
        },
        {
            *("numpy", "cv2", "pydicom", "yaml"),
            *("fastapi", "starlette", "uvicorn", "python_multipart"),
        },
    ),
    "pseudo": ({"artifacts", "evaluation"}, {"numpy"}),
    "training": (
        {"config", "sampling", "data", "dicom", "images", "structures"},
        {"torch", "numpy", "cv2"},
    ),
    "cluster": (set(), {"psutil", "submitit", "yaml"}),
    "ladder": (
        {"config", "data", "evaluation", "artifacts", "engines"},
        {"numpy", "yaml", "matplotlib"},
    ),
    "workflows": (
        {
            *("artifacts", "config", "data", "dicom", "engines", "evaluation", "images", "ladder"),
            *("cluster", "combining", "decision", "detector", "dicom_out", "exam", "phantom"),
            *("pseudo", "structures", "training", "zoo"),
        },
        {"numpy", "torch", "cv2", "tqdm", "yaml"},
    ),
}
CORE = sorted(ALLOWED)
ENGINES_ALLOWED = {"numpy", "torch", "tqdm", "fvcore"}


def imports_of(path):
    """Top-level names of all modules that a file imports, and those below simfrcnn."""
    own, foreign = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"simfrcnn.{a.name}" for a in node.names] if module == "simfrcnn" else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "simfrcnn":
                own.add(".".join(parts[1:]))
            elif parts[0] not in STANDARD:
                foreign.add(parts[0])
    return own, foreign


def files_of(package):
    """The files of a package, without the parts that have a row of their own."""
    path = ROOT / package
    if not path.is_dir():
        return [path.with_suffix(".py")]
    parts = [ROOT / name for name in ALLOWED if name.startswith(f"{package}/")]
    return sorted(
        file for file in path.rglob("*.py") if not any(file.is_relative_to(p) for p in parts)
    )


@pytest.mark.parametrize("package", CORE)
def test_core_packages_import_only_what_they_may(package):
    own_allowed, foreign_allowed = ALLOWED[package]
    for path in files_of(package):
        own, foreign = imports_of(path)
        own_packages = {name.split(".")[0] for name in own} - {""}
        assert own_packages <= own_allowed | EVERYWHERE | {package}, path
        assert foreign <= foreign_allowed, path


@pytest.mark.parametrize(
    ("engine", "library"), [("detectron2", {"detectron2"}), ("torchvision", {"torchvision"})]
)
def test_engines_import_their_own_library_and_never_each_other(engine, library):
    other = {"detectron2", "torchvision"} - library
    for path in files_of(f"engines/{engine}"):
        own, foreign = imports_of(path)
        assert not any(name.startswith(f"engines.{next(iter(other))}") for name in own), path
        assert not any(name.split(".")[0] in {"cli", "workflows"} for name in own), path
        assert foreign <= ENGINES_ALLOWED | library, path


# What one module alone may import: torchvision's operator, and a library of backbones.
COMMON_ALLOWED = {
    "deformable.py": {"torchvision"},
    "region_align.py": {"torchvision"},
    "tensor_files.py": {"safetensors"},
    "timm_backbones.py": {"timm"},
}


def test_what_both_engines_share_imports_neither_library():
    for path in [*files_of("engines/common"), ROOT / "engines" / "contract.py"]:
        own, foreign = imports_of(path)
        assert not any(name.startswith(("engines.detectron2", "engines.torchv")) for name in own)
        assert foreign <= ENGINES_ALLOWED | COMMON_ALLOWED.get(path.name, set()), path


def _runs_silently(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_core_loads_no_detection_library_and_an_engine_no_timm():
    """One process for all packages, one after the other: the first one to load it is named."""
    modules = {
        package: [
            ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
            for path in files_of(package)
        ]
        for package in CORE
    }
    code = (
        "import sys, importlib\n"
        "unwanted = {'detectron2', 'torchvision', 'timm', 'matplotlib', 'highdicom',\n"
        " 'pynetdicom', 'dicomweb_client'}\n"
        f"for package, modules in {modules!r}.items():\n"
        "    [importlib.import_module(m) for m in modules]\n"
        "    for name in unwanted & set(sys.modules):\n"
        "        sys.exit(f'{package} loads {name}')\n"
        "import simfrcnn.engines.torchvision\n"
        "if 'timm' in sys.modules:\n"
        "    sys.exit('timm is loaded before it is asked for')\n"
    )
    _runs_silently(code)


def test_to_judge_saved_detections_takes_no_torch():
    """It is more than half of the memory and of the start of a small evaluation."""
    code = (
        "import sys, simfrcnn.cli.evaluate\n"
        "from simfrcnn.workflows import compare, evaluate, readers\n"
        "sys.exit('torch is loaded' if 'torch' in sys.modules else 0)\n"
    )
    _runs_silently(code)


def test_the_command_line_stays_thin():
    """It parses, calls a workflow and prints: what is more belongs into ``workflows``."""
    lines = [
        line
        for path in (ROOT / "cli").glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) <= 1500


def test_no_module_is_longer_than_450_lines():
    n_lines = {path: len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert len(n_lines) > 100
    assert not {path: n for path, n in n_lines.items() if n > 450}
