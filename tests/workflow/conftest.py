"""A phantom data set and a run of every engine, made once and shared by the workflow tests."""

import pickle

import pytest

from simfrcnn.cli.main import main
from simfrcnn.evaluation.reporting.figures import draw_charts
from support.commands import ENGINES, SMOKE
from support.file_counts import counting_files
from support.once import made_once


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    """A datasets folder with the tiny phantoms."""

    def make(folder):
        words = ["make-phantoms", "--preset", "tiny", "--out", str(folder / "phantom_tiny")]
        assert main(words) == 0

    return made_once(tmp_path_factory, "datasets", make)


@pytest.fixture(autouse=True)
def _use_datasets(datasets, monkeypatch):
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(datasets))


@pytest.fixture(autouse=True)
def _use_quick_charts(quick_charts):
    """Those of ``trained`` are drawn."""


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: exit code 2, no traceback; returns its one-line error."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        error = capsys.readouterr().err
        assert code == 2, error
        assert "Traceback" not in error
        return error[error.index("error: ") :]

    return run


@pytest.fixture(scope="session", params=ENGINES)
def trained(request, datasets, tmp_path_factory):
    """(engine, run folder) of a smoke training with its test; ``files.pickle`` is beside it."""

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SIMFRCNN_DATASETS", str(datasets))
            patch.setattr("simfrcnn.evaluation.reporting.report.draw_charts", draw_charts)
            words = ["train-net", "--config-file", SMOKE, "--engine", request.param]
            with counting_files() as counts:
                assert main([*words, "OUTPUT_DIR", str(folder / "run")]) == 0
        (folder / "files.pickle").write_bytes(pickle.dumps(counts))

    return request.param, made_once(tmp_path_factory, f"trained_{request.param}", make) / "run"
