"""Models that come with the package, by name."""

import re

import numpy as np
import pytest

import simfrcnn
from simfrcnn import zoo
from simfrcnn.errors import CheckpointError
from simfrcnn.files import sha256_of
from simfrcnn.workflows.export import describe_model, export_model
from simfrcnn.zoo import find_model, shipped_models
from support.commands import ROOT


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


def test_a_folder_does_not_hide_a_name(folder, tmp_path, monkeypatch):
    """Such as one with the results of that very model; of another name it stays what was named."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny-mass", "found"):
        (tmp_path / name).mkdir()
    assert find_model("tiny-mass", folder=folder) == folder / "tiny-mass.safetensors"
    assert find_model("found", folder=folder).resolve() == tmp_path / "found"


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


def test_the_page_of_prediction_has_the_figure_of_the_model_as_it_is_shipped():
    """Not that of the checkpoint before its weights were rounded to 8 bits."""
    pages = [ROOT / "docs" / name for name in ("results/cbis_ddsm.md", "prediction.md")]
    made, quoted = (" ".join(page.read_text("utf-8").split()) for page in pages)
    (exact,) = re.findall(
        r"So stored it has, on val, an AUC by image of (\S+) \((\S+)-(\S+)\)", made
    )
    auc, low, high = (f"{float(number):.2f}".lstrip("0") for number in exact)
    assert f"AUC by image {auc} ({low}-{high}) on validation patients" in quoted


@pytest.mark.torchvision
@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_says_what_it_is_and_works(name, caplog):
    assert find_model(name).stat().st_size <= 16_000_000
    facts = describe_model(name)
    assert facts.card["name"] == name
    assert facts.card["licence"]
    assert facts.card["trained_on"][0]["patients"] > 0
    assert all(f["low"] < f["value"] < f["high"] for f in facts.card["figures"])
    assert any("digital mammograms" in limit for limit in facts.card["limits"])
    assert facts.operating_points is not None
    assert facts.steps_to_resume_from is None
    assert "Not a medical device" in "\n".join(facts.lines())
    y, x = np.mgrid[:800, :500]
    breast = np.clip(1 - (x / 400) ** 2 - ((y - 400) / 380) ** 2, 0, 1) ** 0.5
    mass = np.exp(-((x - 150) ** 2 + (y - 380) ** 2) / 2 / 35**2)
    film = np.rint(110 * breast + 120 * mass).astype(np.uint8)
    detector = simfrcnn.load(name, device="cpu")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert detector.decision.point is not None
    best = max(detector.detect(film).detections, key=lambda detection: detection.score)
    x1, y1, x2, y2 = best.box
    assert x1 < 150 < x2
    assert y1 < 380 < y2


def test_there_is_a_model():
    assert "cbis-mass" in shipped_models()
