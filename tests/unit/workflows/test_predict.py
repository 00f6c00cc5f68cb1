"""Many exams into a folder: what a kill loses, what shards make, what is refused."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import re
import shutil
import sys
from datetime import date, datetime, timezone

import cv2
import numpy as np
import pytest

import simfrcnn
from simfrcnn.artifacts import read_detections
from simfrcnn.cli.main import main
from simfrcnn.data.exams import ExamPlan, Selection
from simfrcnn.data.pseudonyms import Pseudonyms
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.engines.common.checkpoints import read_checkpoint, write_checkpoint
from simfrcnn.engines.common.descriptions import config_sha256
from simfrcnn.errors import ArtifactError, ConfigError, DataError, OutputError
from simfrcnn.workflows.predict import PredictionOptions, predict
from simfrcnn.workflows.prediction_shards import merge, require_shards, summary_of, update
from support.kills import killed_at
from support.studies import files_below, results, write_study, write_view

pytestmark = pytest.mark.torchvision

ALONE = PredictionOptions(workers=0)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Six exams, one of them with a file that cannot be read and one with a copy."""
    folder = tmp_path_factory.mktemp("studies")
    for number in range(6):
        paths = write_study(folder, number, n_views=2)
    (folder / "study2" / "cut.dcm").write_bytes(b"damaged")
    shutil.copy(paths[0], folder / "study5" / "copy.dcm")
    return folder


@pytest.fixture(scope="module")
def whole(detector, studies, tmp_path_factory):
    """The folder of one run, with its files."""
    out = tmp_path_factory.mktemp("whole") / "out"
    predict(detector, studies, out, ALONE)
    return out, files_below(out)


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_exam_is_a_file_with_its_pictures_and_a_row(whole, studies):
    out, files = whole
    exams = results(out)
    assert sorted(exams) == [f"1.2.3.{n}" for n in range(6)]
    for content in exams.values():
        assert len(content["images"]) == 2
        for image in content["images"]:
            assert (studies / image["file"]).is_file()
            picture = cv2.imread(str(out / image["picture"]))
            assert picture.shape == (image["height"], image["width"], 3)
    assert sum(name.endswith(".png") for name in files) == 12
    index = rows(out / "index.csv")
    assert len(index) == 6
    for row in index:
        content = json.loads((out / row["result"]).read_text())
        assert row["exam"] == content["exam_id"]
        assert float(row["score"]) == content["score"]
        assert row["call"] == content["decision"]["call"]
        assert row["images"] == "2"
    manifest = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["result"] for line in manifest] == [row["result"] for row in index]


def test_what_was_left_out_stands_in_the_exam_and_failures_in_a_table(whole):
    out, _ = whole
    exams = results(out)
    (lost,) = exams["1.2.3.2"]["left_out"]
    assert (lost["file"], lost["what"]) == ("study2/cut.dcm", "unreadable")
    (copy,) = exams["1.2.3.5"]["left_out"]
    assert (copy["file"], copy["what"]) == ("study5/copy.dcm", "duplicate")
    (failure,) = rows(out / "failures.csv")  # a copy is none
    assert failure["exam"] == "1.2.3.2"
    assert failure["file"] == "study2/cut.dcm"
    assert "not a DICOM file" in failure["why"]


def test_a_prediction_says_where_its_model_comes_from(untrained, studies, tmp_path):
    weights = tmp_path / "mine.pth"
    content = read_checkpoint(untrained)
    card = {"config": "demo/sim", "trained_on": [{"name": "a/train"}], "seed": 7}
    write_checkpoint(weights, {**content, "card": card})
    out = tmp_path / "out"
    before = datetime.now(timezone.utc).date()
    predict(simfrcnn.load(weights), studies / "study1", out, ALONE)
    facts = read_detections(out / "detections.json").provenance
    assert before <= date.fromisoformat(facts["date"]) <= datetime.now(timezone.utc).date()
    expected = {
        **{"checkpoint": "mine.pth", "config": "demo/sim", "trained_on": ["a/train"], "seed": 7},
        **{"model": "SimFasterRCNN, build_timm_fpn_backbone", "engine": "torchvision"},
        "config_sha256": config_sha256(content["config"]),
    }
    assert {key: facts[key] for key in expected} == expected

    # The day is that of the beginning, and a file may be renamed in between: it is the same model.
    run = json.loads((out / "run.json").read_text())
    run["described"]["date"] = "2026-01-31"
    (out / "run.json").write_text(json.dumps(run))
    renamed = weights.rename(tmp_path / "renamed.pth")
    predict(simfrcnn.load(renamed), studies / "study1", out, ALONE)
    assert read_detections(out / "detections.json").provenance == {**facts, "date": "2026-01-31"}

    # A folder of an earlier version does not say it: it is gone on with all the same.
    del run["described"]
    (out / "run.json").write_text(json.dumps(run))
    predict(simfrcnn.load(renamed), studies / "study1", out, ALONE)
    facts = read_detections(out / "detections.json").provenance
    assert (facts["checkpoint"], facts["config"]) == ("renamed.pth", "demo/sim")


def test_shards_of_several_days_bear_the_first(detector, studies, tmp_path):
    parts = [tmp_path / "part1", tmp_path / "part2"]
    for n, (part, day) in enumerate(zip(parts, ("2026-02-01", "2026-01-31"), strict=True), 1):
        predict(detector, studies / "study1", part, PredictionOptions(workers=0, shard=(n, 2)))
        run = json.loads((part / "run.json").read_text())
        run["described"]["date"] = day
        (part / "run.json").write_text(json.dumps(run))
    merge(parts, tmp_path / "merged")
    assert read_detections(tmp_path / "merged/detections.json").provenance["date"] == "2026-01-31"


def test_detections_are_what_evaluate_takes(whole):
    out, _ = whole
    found = read_detections(out / "detections.json")
    images = json.loads((out / "images.json").read_text())
    assert images["categories"] == [{"id": 1, "name": "malignant"}]
    assert found.provenance["checkpoint_sha256"]
    by_file = {image["file_name"]: image for image in images["images"]}
    assert len(by_file) == len(found.images) == 12
    for content in results(out).values():
        for image in content["images"]:
            entry = by_file[image["file"]]
            assert (entry["exam_id"], entry["height"]) == (content["exam_id"], image["height"])
            saved = found.images[entry["id"]]
            assert saved.scores.tolist() == [d["score"] for d in image["detections"]]
            boxes = np.array([d["box_xyxy_px"] for d in image["detections"]])
            assert np.allclose(saved.boxes, boxes, atol=1e-9)


def test_an_image_has_the_same_number_wherever_it_is_run(detector, whole, studies, tmp_path):
    predict(detector, studies, tmp_path / "out", PredictionOptions(workers=0, pictures="none"))
    assert (tmp_path / "out" / "detections.json").read_bytes() == whole[1]["detections.json"]
    assert not (tmp_path / "out" / "pictures").exists()


def test_processes_write_the_same_folder(detector, whole, studies, tmp_path):
    predict(detector, studies, tmp_path / "out", PredictionOptions(workers=2))
    assert files_below(tmp_path / "out") == whole[1]


def test_pictures_of_findings_alone(detector, studies, tmp_path):
    scores = sorted(
        image["score"]
        for content in results_of(detector, studies, tmp_path / "a", pictures="none")
        for image in content["images"]
    )
    options = {"pictures": "findings", "score_threshold": scores[6]}
    drawn = [
        image["picture"] is not None
        for content in results_of(detector, studies, tmp_path / "b", **options)
        for image in content["images"]
    ]
    assert sum(drawn) == sum(score >= scores[6] for score in scores)
    assert len(list((tmp_path / "b").rglob("*.png"))) == sum(drawn)


def results_of(detector, studies, out, **options):
    predict(detector, studies, out, PredictionOptions(workers=0, **options))
    return list(results(out).values())


def test_shards_that_have_gone_on_are_put_together_again(detector, studies, tmp_path):
    own, parts, merged = tmp_path / "in", [tmp_path / "part1", tmp_path / "part2"], tmp_path / "all"
    for number in (0, 3):
        shutil.copytree(studies / f"study{number}", own / f"study{number}")

    def go_on():
        for n, part in enumerate(parts, start=1):
            predict(detector, own, part, PredictionOptions(workers=0, shard=(n, 2)))

    go_on()
    merge(parts, merged)
    shutil.rmtree(own / "study3")
    write_study(own, 3, n_views=1)  # changed
    write_study(own, 4, n_views=1)  # new
    go_on()
    summary = update(parts, merged)
    assert (summary.n_done_before, summary.tally.n_exams, summary.tally.n_images) == (2, 3, 4)
    predict(detector, own, tmp_path / "one", ALONE)
    assert files_below(merged) == files_below(tmp_path / "one")
    assert summary_of(merged).tally == summary.tally


def test_shards_together_are_one_run(detector, whole, studies, tmp_path):
    parts = [tmp_path / f"part{n}" for n in (1, 2, 3, 4)]
    for n, part in enumerate(parts, start=1):
        predict(detector, studies, part, PredictionOptions(workers=0, shard=(n, 4)))
    assert sum(len(results(part)) for part in parts) == 6
    merge(parts[::-1], tmp_path / "merged")
    assert files_below(tmp_path / "merged") == whole[1]
    with pytest.raises(ArtifactError, match=r"1/4, 2/4, 2/4"):
        merge([parts[0], parts[1], parts[1]], tmp_path / "other")
    with pytest.raises(ArtifactError, match="None"):
        merge([whole[0]], tmp_path / "other")
    facts = json.loads((parts[1] / "run.json").read_text())
    (parts[1] / "run.json").write_text(json.dumps({**facts, "pictures": "none"}))
    with pytest.raises(ArtifactError, match=r"not a shard of the same run.*pictures differ"):
        merge(parts, tmp_path / "other")
    (parts[0] / "index.csv").unlink()
    with pytest.raises(ArtifactError, match="not finished"):
        merge([parts[0]], tmp_path / "other")
    assert not (tmp_path / "other").exists()


# -- ended in the middle ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded PyTorch")
@pytest.mark.parametrize("moment", [1, 4, 8, 13, 19, 24])
def test_a_run_that_is_killed_goes_on_and_ends_the_same(
    detector, whole, studies, tmp_path, monkeypatch, moment
):
    """Killed before the n-th file gets its name, of 25: facts, 12 pictures, 6 results, lists."""
    monkeypatch.setattr("simfrcnn.workflows.predict._WAITING", 1)
    out = tmp_path / "out"
    killed_at(moment, lambda: predict(detector, studies, out, ALONE))
    assert files_below(out) != whole[1]
    if moment > 1:
        n_begun = min(math.ceil((moment - 2) / 3), 6)  # at least: three files each, after the facts
        n_under_way = 2 if moment < 20 else 0  # at most: one waits and one more; lists come last
        n_done = predict(detector, studies, out, ALONE).n_done_before
        assert n_done >= n_begun - n_under_way
    else:  # not even begun: what lies there is no run
        shutil.rmtree(out)
        predict(detector, studies, out, ALONE)
    assert files_below(out) == whole[1]


def test_a_torn_line_of_the_manifest_costs_one_exam(detector, whole, studies, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    lines = (out / "manifest.jsonl").read_bytes()
    (out / "manifest.jsonl").write_bytes(lines[:-30])
    for name in ("index.csv", "detections.json", "failures.csv"):
        (out / name).unlink()
    (out / "exams" / ".x.json.abc.part").write_bytes(b"half")
    assert predict(detector, studies, out, ALONE).n_done_before == 5
    assert files_below(out) == whole[1]


def test_exams_that_are_done_are_not_judged_again_and_new_ones_are(
    detector, whole, studies, tmp_path, monkeypatch
):
    out, source = tmp_path / "out", tmp_path / "source"
    shutil.copytree(studies, source)
    shutil.copytree(whole[0], out)
    judged = []
    detect = detector.engine.detect
    monkeypatch.setattr(
        detector.engine, "detect", lambda m, s: judged.append(len(s)) or detect(m, s)
    )
    predict(detector, source, out, ALONE)
    assert judged == []
    assert files_below(out) == whole[1]
    write_study(source, 7, n_views=2)  # a new exam
    write_view(source / "late.dcm", StudyInstanceUID="1.2.3.0", PatientID="P0")  # a late view
    (source / "study1" / "RCC.dcm").unlink()
    predict(detector, source, out, ALONE)
    assert sorted(judged) == [1, 2, 3]
    assert len(results(out)["1.2.3.0"]["images"]) == 3
    pictures = {i["picture"] for c in results(out).values() for i in c["images"]}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.png")} == pictures


def changed_header(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_an_exam_whose_header_changed_at_the_same_size_is_judged_again(
    detector, whole, studies, tmp_path
):
    out, source = tmp_path / "out", tmp_path / "source"
    shutil.copytree(studies, source)
    shutil.copytree(whole[0], out)
    path = source / "study1" / "RCC.dcm"
    size = path.stat().st_size
    changed_header(path, b"CS\x02\x00R ", b"CS\x02\x00L ")
    assert path.stat().st_size == size
    predict(detector, source, out, ALONE)
    assert [one["laterality"] for one in results(out)["1.2.3.1"]["images"]] == ["L", "L"]


def test_results_of_a_version_that_knew_sizes_alone_are_gone_on_with(
    detector, studies, tmp_path, monkeypatch, caplog
):
    out = tmp_path / "out"
    with monkeypatch.context() as before:
        before.setattr(ExamPlan, "fingerprint", ExamPlan.fingerprint_by_size)
        predict(detector, studies, out, ALONE)
    assert not caplog.records
    files = files_below(out)
    predict(detector, studies, out, ALONE)
    assert files_below(out) == files
    (said,) = caplog.records
    assert "6 exams were judged by an earlier version" in said.message


def test_a_full_disk_ends_the_run_and_what_is_done_stays(detector, whole, studies, tmp_path):
    import errno

    out, fsync, n = tmp_path / "out", os.fsync, 0

    def fill_up(handle):
        nonlocal n
        n += 1
        if n == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", fill_up)
        with pytest.raises(OutputError, match="disk is full"):
            predict(detector, studies, out, ALONE)
    assert predict(detector, studies, out, ALONE).n_done_before >= 1
    assert files_below(out) == whole[1]


# -- refused ---------------------------------------------------------------------------------------


def test_another_run_is_not_gone_on_with(detector, whole, studies, untrained, tmp_path):
    out, files = whole
    with pytest.raises(OutputError, match='pictures was "all" and is "none"'):
        predict(detector, studies, out, PredictionOptions(workers=0, pictures="none"))
    with pytest.raises(OutputError, match="shard was not given"):
        predict(detector, studies, out, PredictionOptions(workers=0, shard=(1, 2)))
    other = simfrcnn.load(untrained, overrides=("TEST.DETECTIONS_PER_IMAGE", "2"))
    with pytest.raises(OutputError, match="config_sha256"):
        predict(other, studies, out, ALONE)
    other = simfrcnn.load(untrained, overrides=("TEST.FLIPS", "all"))
    with pytest.raises(OutputError, match='flips was not given and is "all"'):
        predict(other, studies, out, ALONE)
    other = simfrcnn.load(untrained, operating_point=0.3)
    with pytest.raises(OutputError, match="decision was"):
        predict(other, studies, out, ALONE)
    everything = PredictionOptions(Selection(STRICT, all_views=True), workers=0)
    with pytest.raises(OutputError, match="all_views was false and is true"):
        predict(detector, studies, out, everything)
    with pytest.raises(OutputError, match="identifiers was"):
        predict(detector, studies, out, ALONE, pseudonyms=Pseudonyms(b"key"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    with pytest.raises(OutputError, match="not a new or empty folder"):
        predict(detector, studies, tmp_path / "full", ALONE)
    assert files_below(out) == files


def test_a_second_run_in_the_same_folder_is_refused_and_disturbs_nothing(
    detector, whole, studies, tmp_path, monkeypatch
):
    out, refusals = tmp_path / "out", []
    detect = detector.engine.detect

    def meanwhile(model, samples):
        if not refusals:
            with pytest.raises(OutputError) as caught:
                predict(detector, studies, out, ALONE)
            refusals.append(str(caught.value))
        return detect(model, samples)

    monkeypatch.setattr(detector.engine, "detect", meanwhile)
    predict(detector, studies, out, ALONE)
    assert refusals == [
        f"{out}: another run is at work there: wait until it has ended, or give another folder"
    ]
    assert files_below(out) == whole[1]


def test_a_go_that_ended_while_headers_were_read_leaves_a_trace(
    detector, studies, tmp_path, monkeypatch
):
    out, new = tmp_path / "out", tmp_path / "new"
    options = PredictionOptions(workers=0, shard=(1, 1))
    predict(detector, studies, out, options)
    before = files_below(out)
    require_shards([out])

    @contextlib.contextmanager
    def ended(*_):
        with pytest.raises(ArtifactError, match="a run is at work there"):
            require_shards([out])
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patched:
        patched.setattr("simfrcnn.workflows.predict.index_of", ended)
        with pytest.raises(KeyboardInterrupt):
            predict(detector, studies, out, options)
    with pytest.raises(ArtifactError, match="out is not finished: run predict on it again"):
        require_shards([out])
    predict(detector, studies, out, options)
    require_shards([out])
    assert files_below(out) == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        predict(detector, tmp_path / "empty", new, options)
    assert not new.exists()


def test_other_options_are_refused_before_headers_are_read(detector, whole, tmp_path):
    with pytest.raises(OutputError, match="cannot be gone on with"):
        predict(detector, tmp_path / "nowhere", whole[0], PredictionOptions(pictures="none"))


def test_in_what_a_prediction_differs_is_said_in_a_few_words(untrained, detector, whole, tmp_path):
    nowhere = tmp_path / "nowhere"
    flips = {"TEST.FLIPS": "all"}
    flipped = simfrcnn.load(untrained, device="cpu", overrides=flips)
    (point,) = re.findall(r"decision was (.*?) and is none; ", refusal(flipped, nowhere, whole))
    assert re.fullmatch(r"case/youden from score [\d.e-]+ on", point)
    said = refusal(flipped, nowhere, whole)
    assert 'flips was not given and is "all"' in said
    assert len(said.partition("gone on with: ")[2]) < 250
    decision = dataclasses.replace(detector.decision, origin="elsewhere")
    other = dataclasses.replace(detector, decision=decision)
    assert "gone on with: decision has another origin. Give" in refusal(other, nowhere, whole)


def refusal(detector, folder, whole):
    with pytest.raises(OutputError, match="cannot be gone on with") as refused:
        predict(detector, folder, whole[0], ALONE)
    return str(refused.value)


def test_an_output_inside_the_input_is_refused_and_makes_nothing(detector, tmp_path):
    write_study(tmp_path, 1, n_views=1)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for out in (tmp_path, tmp_path / "out", tmp_path / "link" / "out"):
        with pytest.raises(OutputError, match="lies inside"):
            predict(detector, tmp_path, out, ALONE)
    assert not (tmp_path / "out").exists()


def test_options_outside_their_range():
    with pytest.raises(ConfigError, match="score in"):
        PredictionOptions(score_threshold=1.5)
    with pytest.raises(ConfigError, match="--shard is 3/2"):
        PredictionOptions(shard=(3, 2))


# -- pseudonyms ------------------------------------------------------------------------------------


def test_pseudonyms_are_in_the_id_map_before_a_result_bears_one(detector, studies, tmp_path):
    out, id_map = tmp_path / "out", tmp_path / "map.json"
    pseudonyms = Pseudonyms(b"a key")

    def failing(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector.engine, "detect", failing)
        with pytest.raises(KeyboardInterrupt):
            predict(detector, studies, out, ALONE, pseudonyms=pseudonyms, id_map=id_map)
    before = json.loads(id_map.read_text())["sources"]
    predict(detector, studies, out, ALONE, pseudonyms=pseudonyms, id_map=id_map)
    assert json.loads(id_map.read_text())["sources"] == before
    assert pseudonyms.sources() == {}
    for exam_id, content in results(out).items():
        assert before["exam"][exam_id] in {f"1.2.3.{n}" for n in range(6)}
        assert before["patient"][content["patient_id"]].startswith("P")
        for image in [*content["images"], *content["left_out"]]:
            assert (studies / before["image"][image["file"]]).is_file()
    assert b"study2" not in b"".join(files_below(out).values())


# -- the command -----------------------------------------------------------------------------------


def test_the_command_lists_failures_and_says_so_by_its_exit_code(
    untrained, studies, tmp_path, capsys
):
    words = ["predict", str(studies), "--weights", str(untrained), "--workers", "0"]
    words += ["--pictures", "none", "--keep-identifiers"]
    assert main([*words, "--output", str(tmp_path / "a")]) == 3
    printed = capsys.readouterr().out
    assert "12 images of 6 exams" in printed
    assert "1 x unreadable: not a DICOM file" in printed
    assert "left out, duplicate: 1 file\n" in printed
    assert main([*words, "--output", str(tmp_path / "a"), "--skip-unreadable"]) == 0
    assert "6 exams were done before" in capsys.readouterr().out
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    (only_bad / "x.dcm").write_bytes(b"damaged")
    words[1] = str(only_bad)
    assert main([*words, "--output", str(tmp_path / "b"), "--skip-unreadable"]) == 3
    assert len(rows(tmp_path / "b" / "failures.csv")) == 2


def test_a_file_that_only_claims_to_be_a_copy_is_a_failure(untrained, tmp_path, capsys):
    facts = {"SOPInstanceUID": "1.2.3.1", "StudyInstanceUID": "1.2", "PatientID": "SYN1"}
    for name in ("a.dcm", "b.dcm"):  # with other noise
        write_view(tmp_path / "in" / name, **facts)
    words = ["predict", str(tmp_path / "in"), "--weights", str(untrained), "--workers", "0"]
    words += ["--pictures", "none", "--keep-identifiers", "--output", str(tmp_path / "out")]
    assert main(words) == 3
    assert "1 x contradicting copy: same SOP Instance UID as" in capsys.readouterr().out
    (failure,) = rows(tmp_path / "out" / "failures.csv")
    assert (failure["file"], failure["what"]) == ("b.dcm", "contradicting copy")
    assert failure["why"].endswith("which was judged, but other pixels")


def test_the_command_merges_shards(untrained, studies, tmp_path, capsys):
    words = ["predict", str(studies), "--weights", str(untrained), "--workers", "0"]
    words += ["--pictures", "none", "--keep-identifiers", "--skip-unreadable"]
    parts = [str(tmp_path / n) for n in "12"]
    for n, part in enumerate(parts, start=1):
        assert main([*words, "--output", part, "--shard", f"{n}/2"]) == 0
    merged = ["predict", "--merge", *parts, "--output", str(tmp_path / "all"), "--skip-unreadable"]
    assert main(merged) == 0
    assert "12 images of 6 exams" in capsys.readouterr().out
    assert main([*words, "--output", str(tmp_path / "x"), "--shard", "half"]) == 2
    assert "legal is I/N" in capsys.readouterr().err
    assert main(["predict", "--output", str(tmp_path / "x")]) == 2
    assert main([*words, "--merge", *parts, "--output", str(tmp_path / "x")]) == 2
    assert (
        "--merge judges nothing: leave out images, --weights, --pictures, --workers, "
        "--keep-identifiers\n"
    ) in capsys.readouterr().err


def test_two_patients_of_one_study_have_a_result_each(detector, tmp_path):
    write_view(tmp_path / "in" / "a.dcm", StudyInstanceUID="1.2", PatientID="SYN1")
    write_view(tmp_path / "in" / "b.dcm", StudyInstanceUID="1.2", PatientID="SYN2")
    predict(detector, tmp_path / "in", tmp_path / "out", ALONE)
    exams = results(tmp_path / "out")
    assert {c["patient_id"]: [i["file"] for i in c["images"]] for c in exams.values()} == {
        "SYN1": ["a.dcm"],
        "SYN2": ["b.dcm"],
    }
    assert all("share this Study Instance UID" in c["notes"][0] for c in exams.values())
