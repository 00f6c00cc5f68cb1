"""Models that come with the package, by name."""

import pytest

from simfrcnn import zoo
from simfrcnn.errors import CheckpointError
from simfrcnn.files import sha256_of
from simfrcnn.workflows.export import export_model
from simfrcnn.zoo import find_model, shipped_models


@pytest.fixture
def folder(tmp_path, untrained):
    """A zoo of one model."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    model = export_model(untrained, folder / "tiny-mass.safetensors", precision="half")
    (folder / zoo.SUMS).write_text(f"{sha256_of(model)}  {model.name}\n")
    return folder


def test_a_name_is_the_file_beside_the_module(folder):
    assert shipped_models(folder) == ("tiny-mass",)
    assert find_model("tiny-mass", folder=folder) == folder / "tiny-mass.safetensors"


def test_a_file_goes_before_a_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-mass").touch()
    assert find_model("tiny-mass", folder=folder).resolve() == tmp_path / "tiny-mass"


def test_an_unknown_name_lists_the_known(folder):
    with pytest.raises(CheckpointError, match=r"tiny-mas does not exist.*are tiny-mass\. Did you"):
        find_model("tiny-mas", folder=folder)
    with pytest.raises(CheckpointError, match=r"does not exist; give a checkpoint of simfrcnn$"):
        find_model("x.pth", folder=folder / "empty")


def test_a_file_that_is_not_what_was_shipped_is_refused(folder):
    path = folder / "tiny-mass.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tiny-mass\.safetensors is not the file that simf"):
        find_model("tiny-mass", folder=folder)
    (folder / zoo.SUMS).write_text("")
    with pytest.raises(CheckpointError, match="install simfrcnn again"):
        find_model("tiny-mass", folder=folder)
