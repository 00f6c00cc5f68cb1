"""One tiny data set, made once, that the tests only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from simfrcnn.phantom.generate import generate
from simfrcnn.phantom.presets import PRESETS


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "tiny"
    generate(PRESETS["tiny"], folder, seed=0)
    return folder
