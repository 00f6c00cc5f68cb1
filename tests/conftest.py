"""What every test run needs: one thread, the engines that are there, the real data."""

from __future__ import annotations

import os

# Before torch is imported: on a few cores a tiny model is many times slower with more threads.
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from benchmarks.dicom_validators import PROGRAMS, is_installed

if TYPE_CHECKING:
    from simfrcnn import Detector

torch.set_num_threads(1)

# The clock of a busy machine says nothing about the code.
settings.register_profile("simfrcnn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("simfrcnn")

ENGINES = ("detectron2", "torchvision")
SHARED_DATA = Path(
    os.environ.get("SIMFRCNN_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared/data"
)


def pytest_configure(config: pytest.Config) -> None:
    """A package that is required by name is there: ``importorskip`` would pass by not running."""
    if hasattr(config, "workerinput"):  # the process that starts the others has looked
        return
    for name in os.environ.get("SIMFRCNN_REQUIRE_PACKAGES", "").replace(",", " ").split():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise pytest.UsageError(
                f"SIMFRCNN_REQUIRE_PACKAGES names {name}, but it cannot be imported ({error}): the "
                "tests that need it would be skipped"
            ) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here; a missing engine that is required by name fails instead.

    Slow tests come first, so that no process is left with one at the end.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        for engine in ENGINES:
            if (
                item.get_closest_marker(engine)
                and not _is_installed(engine)
                and not _is_required(engine)
            ):
                item.add_marker(pytest.mark.skip(reason=f"{engine} is not installed"))
        for service in _services_of(item):
            if not is_installed(service) and not _is_required_service(service):
                reason = f"{service} ({PROGRAMS[service]}) is not installed: make install-services"
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of a required engine must not pass by not running."""
    for engine in ENGINES:
        if item.get_closest_marker(engine) and _is_required(engine) and not _is_installed(engine):
            pytest.fail(f"SIMFRCNN_REQUIRE_ENGINES names {engine}, but it is not installed")
    for service in _services_of(item):
        if _is_required_service(service) and not is_installed(service):
            pytest.fail(f"SIMFRCNN_REQUIRE_SERVICES names {service}, but it is not installed")


def pytest_report_header() -> list[str]:
    """Which engines are tested, with their versions, and by which validators."""
    return [_engines_tested(), _services_tested()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The same at the end, where it is read."""
    terminalreporter.write_line(_engines_tested())
    terminalreporter.write_line(_services_tested())


@pytest.fixture(scope="session", autouse=True)
def _private_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys and id maps of the tests are not those of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets (tests that take it carry the marker ``data``)."""
    return SHARED_DATA


@pytest.fixture(scope="module")
def quick_charts() -> Iterator[None]:
    """Reports without their charts, which take half of a small run; other tests draw them."""

    def not_drawn(charts: Sequence[object]) -> dict[str, bytes]:
        assert charts
        return {"png": b"a chart", "svg": b"a chart"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simfrcnn.evaluation.reporting.report.draw_charts", not_drawn)
        yield


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model with random weights on torchvision, with operating points."""
    from support.untrained import write_untrained

    if not _is_installed("torchvision"):
        pytest.skip("torchvision is not installed")
    path = tmp_path_factory.mktemp("untrained") / "model.pth"
    return write_untrained(path, case__youden=0.5, breast__sensitivity=0.25)


@pytest.fixture(scope="session")
def detector(untrained: Path) -> Detector:
    """The model of :func:`untrained`, loaded."""
    import simfrcnn

    return simfrcnn.load(untrained)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, which tests of the marker ``browser`` need."""
    from support.browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node; skipped where it does not start, unless it is required."""
    from support.slurm import NotStarted, one_node

    with contextlib.ExitStack() as running:
        try:
            running.enter_context(one_node(tmp_path_factory.mktemp("slurm")))
        except NotStarted as error:
            if _is_required_service("slurm"):
                pytest.fail(f"SIMFRCNN_REQUIRE_SERVICES names slurm, but {error}")
            pytest.skip(f"slurm: {error}")
        yield


def _is_installed(engine: str) -> bool:
    return importlib.util.find_spec(engine) is not None


def _is_required(engine: str) -> bool:
    return engine in os.environ.get("SIMFRCNN_REQUIRE_ENGINES", "").replace(",", " ").split()


def _services_of(item: pytest.Item) -> list[str]:
    """The services that a test needs, by its markers ``service``."""
    return [str(name) for marker in item.iter_markers("service") for name in marker.args]


def _is_required_service(service: str) -> bool:
    return service in os.environ.get("SIMFRCNN_REQUIRE_SERVICES", "").replace(",", " ").split()


def _services_tested() -> str:
    return f"services tested: {', '.join(filter(is_installed, PROGRAMS)) or 'none'}"


def _engines_tested() -> str:
    named = [
        f"{engine} {importlib.import_module(engine).__version__}"
        for engine in ENGINES
        if _is_installed(engine)
    ]
    return f"engines tested: {', '.join(named) or 'none'}"
