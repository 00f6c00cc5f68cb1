"""Node and pull with a real archive: results come back as they were sent, each study once."""

import dataclasses
import io
import json
import subprocess
import threading

import pydicom
import pytest

import simfrcnn
from benchmarks.dicom_validators import dciodvfy
from benchmarks.node_parts import (
    quick_judge,
    running_node,
    states_of,
    wait_until,
    write_film,
)
from simfrcnn.cli.main import main
from simfrcnn.service.options import NodeOptions, PullOptions
from simfrcnn.service.pull import run_pull
from simfrcnn.service.sending import TOKEN, SendingError, targets_of
from support.orthanc import SYSTEM_PATH, running_orthanc
from support.results import phantom_films

pytestmark = pytest.mark.service("orthanc", "dcmtk")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


@pytest.fixture(autouse=True)
def _empty(orthanc):
    yield
    for study in orthanc.get("/studies"):
        subprocess.run(
            ["curl", "-fsS", "-X", "DELETE", orthanc.web.replace("dicom-web", f"studies/{study}")],
            check=True,
            capture_output=True,
        )


def pull_options(folder, orthanc, **facts):
    facts = {"source": orthanc.web, "since": "2026-01-01", "min_free_gb": 0, **facts}
    return PullOptions(folder=folder / "pull", retry_wait=0.1, **facts)


def storescu(port, *films):
    """That of dcmtk: pynetdicom brings one of the same name."""
    words = ["storescu", "-aec", "SIMFRCNN", "127.0.0.1", str(port), *map(str, films)]
    subprocess.run(words, check=True, env={"PATH": SYSTEM_PATH})


def results_of(folder):
    return list(folder.glob("studies/*/results/**/*.dcm"))


def fill(orthanc, folder, studies):
    for study in studies:
        for number in (1, 2):
            film = write_film(folder / f"{study}-{number}.dcm", study, number)
            orthanc.post("/instances", film.read_bytes())


@pytest.mark.torchvision
@pytest.mark.service("dicom3tools")
@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_results_of_a_model_are_read_back_as_they_were_sent(untrained, orthanc, tmp_path, way):
    pytest.importorskip("highdicom")
    from simfrcnn.service.model import judge_with

    films = phantom_films(tmp_path / "films")
    target = orthanc.target if way == "C-STORE" else f"{orthanc.web}/"
    options = NodeOptions(
        folder=tmp_path / "node", to=(target,), stable_after=1.0, min_free_gb=0, canary_minutes=0
    )
    judge = judge_with(simfrcnn.load(untrained), ("sr", "gsps"), 0.1)
    with running_node(options, judge) as port:
        storescu(port, *films)
        assert wait_until(lambda: states_of(tmp_path / "node")["done"] == 1)
    sent = {path.name: pydicom.dcmread(path) for path in results_of(tmp_path / "node")}
    stored = [*orthanc.files("SR"), *orthanc.files("PR")]
    assert len(sent) == len(stored) == 5
    by_uid = {dataset.SOPInstanceUID: dataset for dataset in sent.values()}
    for number, content in enumerate(stored):
        dataset = pydicom.dcmread(io.BytesIO(content))
        assert dataset == by_uid[dataset.SOPInstanceUID]
        path = tmp_path / f"back-{number}.dcm"
        path.write_bytes(content)
        assert dciodvfy(path) == []
    if way == "C-STORE":  # the very files of `predict`, not of a second implementation
        (place,) = (tmp_path / "node").glob("studies/*/films")
        words = ["predict", str(place), "--weights", str(untrained), "--workers", "0"]
        words += ["--keep-identifiers", "--pictures", "none", "--score-threshold", "0.1"]
        assert main([*words, "--dicom", "sr,gsps", "--output", str(tmp_path / "out")]) == 0
        of_predict = {path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
        assert of_predict == {path.read_bytes() for path in results_of(tmp_path / "node")}


def test_a_result_that_was_stored_before_a_kill_is_the_same_instance(orthanc, tmp_path):
    film = write_film(tmp_path / "film.dcm", 1, 1)
    options = NodeOptions(
        folder=tmp_path / "node", to=(orthanc.target, orthanc.web), stable_after=0.2,
        min_free_gb=0, canary_minutes=0,
    )  # fmt: skip
    with running_node(options, quick_judge()) as port:
        storescu(port, film)
        assert wait_until(lambda: states_of(tmp_path / "node")["done"] == 1)
    assert len(orthanc.files("SR")) == 1  # from two targets that are one archive


@pytest.mark.parametrize("way", ["C-FIND", "QIDO-RS"])
def test_an_archive_says_what_it_has(orthanc, tmp_path, way):
    kept = write_film(tmp_path / "kept.dcm", 1, 1)
    other = write_film(tmp_path / "other.dcm", 1, 2)
    orthanc.post("/instances", kept.read_bytes())
    to = orthanc.target if way == "C-FIND" else orthanc.web
    (target,) = targets_of(NodeOptions(folder=tmp_path, to=(to,)))
    assert target.has(kept)
    assert not target.has(other)
    away = "X@127.0.0.1:1" if way == "C-FIND" else "http://127.0.0.1:1/dicom-web"
    (nobody,) = targets_of(NodeOptions(folder=tmp_path, to=(away,)))
    assert not nobody.has(kept)


def test_a_pull_judges_each_study_once(orthanc, tmp_path):
    fill(orthanc, tmp_path, (1, 2))
    other = write_film(tmp_path / "ct.dcm", 3, 1, Modality="CT")
    orthanc.post("/instances", other.read_bytes())
    early = write_film(tmp_path / "early.dcm", 4, 1, StudyDate="20250101")
    orthanc.post("/instances", early.read_bytes())
    options = pull_options(tmp_path, orthanc)
    pulled = run_pull(options, judge=quick_judge())
    assert (pulled.n_found, pulled.n_done, pulled.n_failed) == (2, 2, 0)
    before = orthanc.files("SR")
    assert len(before) == 2
    calls = []
    again = run_pull(options, judge=lambda *places: calls.append(places))
    assert (again.n_found, again.n_done_before, calls) == (2, 2, [])
    assert again.lines()[0].startswith("studies at the source: 2, of which 2 were taken before")
    assert orthanc.files("SR") == before
    fill(orthanc, tmp_path, (5,))
    assert run_pull(options, judge=quick_judge()).n_done == 3
    films = list((tmp_path / "pull").rglob("films/*.dcm"))
    assert len(films) == 6
    for path in films:
        dataset = pydicom.dcmread(path)
        name = ".".join(dataset.SOPInstanceUID.split(".")[-2:]).replace(".", "-")
        assert dataset == pydicom.dcmread(tmp_path / f"{name}.dcm")


def test_a_pull_that_is_ended_goes_on(orthanc, tmp_path):
    fill(orthanc, tmp_path, (1, 2, 3))
    options, judge = pull_options(tmp_path, orthanc), quick_judge()
    n_judged = []

    def ending(films, output):
        n_judged.append(films)
        if len(n_judged) == 2:
            raise KeyboardInterrupt
        return judge(films, output)

    with pytest.raises(KeyboardInterrupt):
        run_pull(options, judge=ending)
    assert states_of(tmp_path / "pull")["done"] == 1
    assert run_pull(options, judge=judge).n_done == 3
    assert len(orthanc.files("SR")) == 3


def test_a_film_that_comes_later_is_pulled_and_makes_a_revision(orthanc, tmp_path):
    fill(orthanc, tmp_path, (1,))
    options = pull_options(tmp_path, orthanc, keep_gb=0)
    assert run_pull(options, judge=quick_judge()).n_done == 1
    assert list((tmp_path / "pull").rglob("films/*.dcm")) == []
    assert run_pull(options, judge=quick_judge()).n_done_before == 1  # although it left the disk
    orthanc.post("/instances", write_film(tmp_path / "1-3.dcm", 1, 3).read_bytes())
    assert run_pull(options, judge=quick_judge()).n_done == 2
    assert len(orthanc.files("SR")) == 2


def test_a_source_that_is_away_is_an_error_without_the_token(orthanc, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, "hush-hush")
    options = dataclasses.replace(pull_options(tmp_path, orthanc), source="http://127.0.0.1:1/dw")
    with pytest.raises(SendingError, match=r"http://127.0.0.1:1/dw: ConnectionError") as caught:
        run_pull(options, judge=quick_judge())
    assert "hush" not in str(caught.value)
    fill(orthanc, tmp_path, (1,))
    run_pull(pull_options(tmp_path, orthanc), judge=quick_judge(), stop=threading.Event())
    text = (tmp_path / "pull" / "audit.jsonl").read_text()
    assert json.loads(text.splitlines()[-1])["event"] == "pull ends"
    assert "hush" not in text
