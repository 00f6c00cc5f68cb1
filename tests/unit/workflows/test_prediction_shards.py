"""When is a shard finished, which `--merge` asks for? No model judges here."""

import pytest

from simfrcnn.cli.main import main
from simfrcnn.errors import ArtifactError
from simfrcnn.exam import ExamResult
from simfrcnn.files import as_json
from simfrcnn.workflows.prediction_folder import PredictionFolder
from simfrcnn.workflows.prediction_shards import merge, require_shards

FACTS = {"simfrcnn": "1", "engine": "none", "checkpoint_sha256": "0" * 64, "classes": ["malignant"],
         "shard": "1/1"}  # fmt: skip


def judged(folder, number):
    """Write the result of an exam; its line of the manifest."""
    exam = ExamResult(exam_id=f"E\n{number}", patient_id="P", score=None, call=None, images=(),
                      left_out=(), why_no_call="no image")  # fmt: skip
    line = folder.write_exam(exam, f"{number:04}", "f" * 8, "none", 0.5)
    return as_json(line, indent=None)


@pytest.fixture
def folder(tmp_path):
    """A shard of three exams that has ended well."""
    folder = PredictionFolder(tmp_path / "part", FACTS)
    with folder.begin_or_go_on(), folder.manifest() as manifest:
        for number in (103, 1, 2):
            manifest.write(judged(folder, number))
    with folder.begin_or_go_on():
        folder.finish()
    require_shards([folder.path])
    return folder


def nothing(folder):
    with folder.begin_or_go_on():
        pass


def new_exam(folder):
    with folder.manifest() as manifest:
        manifest.write(judged(folder, 900))


def new_exam_before_its_line(folder):
    judged(folder, 900)


def torn_line(folder):
    with folder.manifest() as manifest:
        manifest.write(judged(folder, 900)[:20])


def changed_exam_before_its_result(folder):
    (folder.path / "exams/02/0002.json").unlink()


def changed_exam(folder):
    with folder.manifest() as manifest:
        manifest.write(judged(folder, 103))


@pytest.mark.parametrize(
    "killed_after",
    [
        nothing,
        new_exam,
        new_exam_before_its_line,
        torn_line,
        changed_exam_before_its_result,
        changed_exam,
    ],
)
def test_a_shard_that_was_killed_in_a_later_go_is_not_merged(folder, tmp_path, killed_after):
    killed_after(folder)
    with pytest.raises(ArtifactError, match="part is not finished: run predict on it again"):
        merge([folder.path], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with folder.begin_or_go_on():
        folder.finish()
    merge([folder.path], tmp_path / "all")


def test_a_shard_at_work_is_not_merged(folder, tmp_path):
    with folder.begin_or_go_on():
        with pytest.raises(ArtifactError, match="part: a run is at work there"):
            merge([folder.path], tmp_path / "all")
        folder.finish()
    assert merge([folder.path], tmp_path / "all").tally.n_exams == 3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--weights", "x.pth"], "--weights"),
        (["--set", "MODEL.DEVICE", "cpu"], "--set"),
        (["--key-file", "key", "--heat-maps"], "--heat-maps, --key-file"),
        (["--score-threshold", "0", "--shards", "2"], "--score-threshold, --shards"),
    ],
)
def test_what_a_merge_cannot_honour_is_refused_by_name(folder, tmp_path, capsys, words, named):
    merging = ["predict", "--output", str(tmp_path / "all"), "--merge", str(folder.path)]
    assert main([*merging, *words]) == 2
    assert f"--merge judges nothing: leave out {named}\n" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
    assert main([*merging, "--skip-unreadable"]) == 3  # no exam has an image
