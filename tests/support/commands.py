"""What the tests of the commands share."""

import importlib.util
from pathlib import Path

import pytest

ENGINES = [
    pytest.param("detectron2", marks=pytest.mark.detectron2),
    pytest.param("torchvision", marks=pytest.mark.torchvision),
]
# For what is the same on every engine.
ONE_ENGINE = "detectron2" if importlib.util.find_spec("detectron2") else "torchvision"
ROOT = Path(__file__).resolve().parents[2]
TEST_CONFIGS = ROOT / "tests" / "support" / "configs"
SMOKE = str(TEST_CONFIGS / "tiny.yaml")  # a smoke config with a tiny backbone


def on_one_engine(fixture="trained"):
    """Run a test with the ``trained`` or ``job`` of one engine only."""
    return pytest.mark.parametrize(fixture, [ONE_ENGINE], indirect=True)
