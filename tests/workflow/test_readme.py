"""The lines of Python in the README run as they stand."""

import re

import pytest

from support.forking import run_program
from support.pages import block_of


@pytest.mark.slow
@pytest.mark.torchvision
def test_the_ten_lines_of_python_run(tmp_path, monkeypatch):
    lines = block_of("README.md", "python")
    statements = [line for line in lines.splitlines() if line.strip() and "import" not in line]
    assert len(statements) == 10
    monkeypatch.delenv("SIMFRCNN_DATASETS")  # they make their own phantoms
    (tmp_path / "ten_lines.py").write_text(lines)
    done = run_program(["ten_lines.py"], cwd=tmp_path, logs=tmp_path)
    assert done.returncode == 0, done.stderr
    exams = sorted((tmp_path / "found").glob("*/exam.json"))
    assert len(exams) == 14
    assert all((exam.parent / "exam.png").stat().st_size > 1000 for exam in exams)
    assert (tmp_path / "report" / "report.html").is_file()
    assert re.search(r"^[01]\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)$", done.stdout, re.MULTILINE)
    assert "Laterality.LEFT ViewPosition.CC" in done.stdout
