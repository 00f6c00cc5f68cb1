"""Which engine is found, and what is said when there is none."""

import sys

import pytest

from simfrcnn.engines.contract import is_installed, load_engine
from simfrcnn.errors import EngineError


@pytest.fixture
def only_what_is_in(monkeypatch, tmp_path):
    """No library but those in ``tmp_path``."""

    def hide(name):
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "Path" in repr(f)])

    return hide


def test_an_unknown_engine_is_refused_with_the_legal_ones():
    with pytest.raises(EngineError, match=r"'keras'.*auto, detectron2, torchvision"):
        load_engine("keras")


def test_a_folder_with_the_name_of_a_library_is_not_the_library(tmp_path, only_what_is_in):
    only_what_is_in("detectron2")
    assert not is_installed("detectron2")
    (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    assert not is_installed("detectron2")
    (tmp_path / "detectron2" / "__init__.py").touch()
    assert is_installed("detectron2")
