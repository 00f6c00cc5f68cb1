"""weakFaster R-CNN by its commands: the job, its steps alone, killed and resumed, and misused."""

import json
import os
import shutil

import pytest

from simfrcnn.cli.main import main
from simfrcnn.config import load_config
from simfrcnn.data.coco import read_coco
from simfrcnn.engines import load_engine
from simfrcnn.engines.common.checkpoints import weights_sha256
from simfrcnn.files import sha256_of
from simfrcnn.locks import LOCK, locked
from simfrcnn.training import recipe
from support.commands import ENGINES, ROOT, SMOKE, TEST_CONFIGS, on_one_engine
from support.forking import kill_program_once
from support.once import made_once

JOB, STAGE1, STAGE2, ORACLE = (
    str(TEST_CONFIGS / f"{name}.yaml") for name in ("weak", "weak_stage1", "weak_stage2", "oracle")
)
PSEUDO = "pseudo/phantom_tiny/train_pseudo.json"
FOUND = "stage2/inference/phantom_tiny/test/detections.json"


def words_of(engine, folder, *more):
    return ["weak", "--config-file", JOB, "--engine", engine, *more, "OUTPUT_DIR", str(folder)]


@pytest.fixture(scope="module", params=ENGINES)
def job(request, datasets, tmp_path_factory):
    """(engine, folder) of a whole job, which no test changes."""

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SIMFRCNN_DATASETS", str(datasets))
            assert main(words_of(request.param, folder / "job")) == 0
        shutil.copy(folder / "job" / "summary.md", folder / "first_summary.md")

    return request.param, made_once(tmp_path_factory, f"weak_{request.param}", make) / "job"


def load(path):
    return json.loads(path.read_text())


# -- the job ---------------------------------------------------------------------------------------


def test_the_folder_of_a_job_holds_every_step_and_its_time(job):
    engine, folder = job
    manifest = load(folder / "manifest.json")
    assert (manifest["finished"], manifest["engine"], manifest["seed"]) == (True, engine, 0)
    assert list(manifest["steps"]) == ["stage1", "pseudo", "stage2", "test"]
    seconds = [step["wall_seconds"] for step in manifest["steps"].values()]
    assert min(seconds) > 0
    assert manifest["wall_seconds"] == pytest.approx(sum(seconds), abs=0.2)
    for stage in ("stage1", "stage2"):
        of_stage = load(folder / stage / "manifest.json")
        assert of_stage["finished"] is True
        assert of_stage["command"] == manifest["command"] != []
    assert not (folder / "stage1" / "inference" / "phantom_tiny" / "test").exists()
    report = load((folder / FOUND).with_name("report.json"))
    assert 0 <= report["figures"]["case/auc"]["value"] <= 1
    test = manifest["steps"]["test"]
    points = "stage2/operating_points.json"
    assert test["outputs"][points] == sha256_of(folder / points)
    assert set(test["inputs"]["data"]) == {"phantom_tiny/val", "phantom_tiny/test"}
    page = (folder.parent / "first_summary.md").read_text()
    assert all(f"| {name} | made |" in page for name in manifest["steps"])
    assert "pseudo-boxes on" in page


def test_pseudo_boxes_name_their_origin_and_radiologists_boxes_are_untouched(job, datasets):
    engine, folder = job
    before, after = load(datasets / "phantom_tiny" / "train.json"), load(folder / PSEUDO)
    n_before = len(before["annotations"])
    assert [json.dumps(entry) for entry in after["annotations"][:n_before]] == [
        json.dumps(entry) for entry in before["annotations"]
    ]
    names = {category["id"]: category["name"] for category in after["categories"]}
    supervision = {image["id"]: image["supervision"] for image in after["images"]}
    added = after["annotations"][n_before:]
    assert added
    for entry in added:
        assert names[entry["category_id"]] == "suspected"
        assert entry["source"] == "pseudo"
        assert 0.005 <= entry["score"] < 1
        assert supervision[entry["image_id"]] == "normal"
    assert set(supervision) == {entry["image_id"] for entry in after["annotations"]}
    origin = after["info"]["pseudo"]
    assert origin["checkpoint_sha256"] == weights_sha256(folder / "stage1" / "model_best.pth")
    assert origin["annotations_sha256"] == sha256_of(datasets / "phantom_tiny" / "train.json")
    detections = (folder / PSEUDO).with_name("train_pseudo.detections.json")
    assert origin["detections_sha256"] == sha256_of(detections)
    assert origin["detections"]["engine"] == engine
    assert origin["config"]["DATASETS"]["BATCHES"] == "positives"
    assert "FILES" not in origin["config"]["DATASETS"]  # places on this disk
    assert origin["score_threshold"] == 0.005
    summary = load((folder / PSEUDO).with_name("train_pseudo.summary.json"))
    assert summary["counts"]["pseudo_boxes"] == len(added)


def test_stage_2_trains_pairs_of_a_positive_and_a_pseudo_boxed_normal(job):
    engine, folder = job
    cfg = load_config(
        load_engine(engine).default_cfg(),
        STAGE2,
        ["DATASETS.FILES", f"phantom_tiny/train_pseudo={folder / PSEUDO}"],
    )
    positive, normal = recipe.training_items(cfg)[0]
    assert set(positive.targets.labels.tolist()) == {1}
    assert set(normal.targets.labels.tolist()) == {2}
    assert not normal.targets.is_normal
    assert not normal.record.is_positive(("malignant",))


def test_what_is_up_to_date_is_not_done_again(job, capsys):
    engine, folder = job
    places = [p for p in folder.rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in places if p.name != "summary.md"}
    assert main(words_of(engine, folder)) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    printed = capsys.readouterr().out
    assert all(f"{s}: up to date" in printed for s in ("stage1", "pseudo", "stage2", "test"))


def test_a_changed_key_is_refused_by_the_first_step_that_depends_on_it(job, refused):
    engine, folder = job
    error = refused(*words_of(engine, folder), "SEED", "1")
    assert "stage1 in" in error
    assert "SEED was 0, is 1" in error
    error = refused(*words_of(engine, folder), "PSEUDO.SCORE_THRESHOLD", "0.006")
    assert "pseudo in" in error
    assert "score_threshold was 0.005, is 0.006" in error
    error = refused(*words_of(engine, folder), "STAGE2.SOLVER.MAX_ITER", "7")
    assert "stage2 in" in error
    error = refused(*words_of(engine, folder), "EVAL.BOOTSTRAP_REPLICATES", "0")
    assert "test in" in error
    error = refused(*words_of(engine, folder), "TEST.FLIPS", "all")  # no training depends on it
    assert "pseudo in" in error
    assert load(folder / "manifest.json")["finished"] is True


@pytest.mark.slow
@on_one_engine("job")
def test_a_killed_job_goes_on_and_comes_to_the_same_end(job, tmp_path):
    engine, whole = job
    folder = tmp_path / "job"
    step = {"detectron2": "stage2", "torchvision": "stage1"}[engine]
    last = folder / step / "model_last.pth"
    command = ["-m", "simfrcnn", *words_of(engine, folder)]
    kill_program_once(last.exists, command, cwd=ROOT, logs=tmp_path)
    assert load(folder / "manifest.json")["steps"][step]["finished"] is False
    assert main(words_of(engine, folder)) == 0
    manifest = load(folder / "manifest.json")
    assert [part["ended"] for part in manifest["steps"][step]["parts"]] == ["killed", "finished"]
    assert manifest["finished"] is True
    assert (folder / FOUND).read_bytes() == (whole / FOUND).read_bytes()


@pytest.mark.torchvision
def test_no_pseudo_box_is_a_valid_file_and_stage_2_refuses_with_advice(tmp_path, refused, capsys):
    words = words_of("torchvision", tmp_path / "job")
    short = ("SOLVER.MAX_ITER", "1", "DATASETS.VAL", "[]")
    error = refused(*words, *short, "PSEUDO.SCORE_THRESHOLD", "0.99")
    assert "phantom_tiny/train_pseudo" in error
    assert "'suspected'" in error
    assert "lower PSEUDO.SCORE_THRESHOLD" in error
    labelled = read_coco(tmp_path / "job" / PSEUDO)
    assert "suspected" in labelled.categories.values()
    assert all(record.is_positive(("malignant",)) for record in labelled.records)
    # The advice works: the labels are made again, stage 1 is not.
    more = ["--overwrite", *words[5:], *short, "PSEUDO.SCORE_THRESHOLD", "0.001"]
    assert main([*words[:5], *more]) == 0
    printed = capsys.readouterr().out
    assert "stage1: up to date" in printed
    assert "pseudo: made" in printed
    assert len(read_coco(tmp_path / "job" / PSEUDO).records) > len(labelled.records)
    # Once more, now that stage 2 is done: it learns from the new labels, and from scratch.
    assert main([*words[:5], *more[:-1], "0.0011"]) == 0
    assert "stage2: made" in capsys.readouterr().out
    (part,) = load(tmp_path / "job" / "manifest.json")["steps"]["stage2"]["parts"]
    assert part["ended"] == "finished"


@pytest.mark.torchvision
def test_no_view_of_a_breast_is_given_a_box_for_the_label_of_the_breast(refused, tmp_path):
    words = ("weak", "--config-file", "smoke/self", "--engine", "torchvision")
    error = refused(*words, "OUTPUT_DIR", tmp_path / "job", "DATASETS.LABEL_BAGS", "breast")
    assert "become boxes (PSEUDO.OF, --of) and DATASETS.LABEL_BAGS is breast" in error
    assert not (tmp_path / "job").exists()


def test_stages_that_do_not_fit_are_refused(refused, tmp_path):
    words = words_of("torchvision", tmp_path / "job")
    assert "set it for both" in refused(*words, "STAGE2.PSEUDO.SCORE_THRESHOLD", "0.5")
    error = refused(*words, "STAGE2.DATASETS.TRAIN", "phantom_tiny/train")
    assert "must be ['phantom_tiny/train_pseudo'], not ['phantom_tiny/train']" in error
    error = refused(*words, "STAGE2.DATASETS.CLASSES", "[malignant, benign]")
    assert "add it to its DATASETS.CLASSES" in error
    error = refused(*words, "STAGE2.DATASETS.TARGET_CLASSES", "[malignant, suspected]")
    assert "DATASETS.TARGET_CLASSES" in error
    assert not (tmp_path / "job").exists()


def test_a_job_is_no_config_of_a_model_and_the_reverse(refused, tmp_path):
    error = refused("train-net", "--config-file", JOB, "--engine", "torchvision")
    assert "STAGE1" in error
    words = ("weak", "--config-file", SMOKE, "--engine", "torchvision", "OUTPUT_DIR", tmp_path)
    assert "has no STAGE1" in refused(*words)


@pytest.mark.parametrize("name", ["model_last.pth", "model_best.pth"])
def test_a_run_that_the_job_did_not_start_is_refused(refused, tmp_path, name):
    (tmp_path / "job" / "stage1").mkdir(parents=True)
    (tmp_path / "job" / "stage1" / name).write_bytes(b"precious")
    error = refused(*words_of("torchvision", tmp_path / "job"))
    assert "did not start" in error
    assert (tmp_path / "job" / "stage1" / name).read_bytes() == b"precious"


def test_a_job_that_another_process_is_at_work_on_is_refused(refused, tmp_path):
    with locked(tmp_path / "job"):
        error = refused(*words_of("torchvision", tmp_path / "job"))
        assert "another run is at work there" in error
        assert os.listdir(tmp_path / "job") == [LOCK]


def test_a_weak_job_in_several_processes_is_refused(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in refused(*words_of("torchvision", tmp_path / "job"))


@on_one_engine("job")
def test_a_ladder_counts_a_weak_run_only_while_its_job_is_finished(job, tmp_path, capsys):
    engine, folder = job
    file, own = tmp_path / "weak.yaml", tmp_path / "out" / "weak" / "seed_0"
    rung = f"RUNGS:\n  weak: {{KIND: weak, CONFIG: {JOB}}}\n"
    file.write_text(f"CONFIG: {STAGE1}\nSEEDS: [0]\nBASELINE: weak\n{rung}")
    shutil.copytree(folder, own)
    words = ["ladder", "--config", str(file), "--output", str(tmp_path / "out"), "--engine", engine]
    assert main([*words, "--report-only"]) == 0
    assert "weak  1/1 seed " in capsys.readouterr().out
    facts = load(tmp_path / "out" / "ladder.json")["runs"][0]["facts"]
    trainings = [load(own / stage / "manifest.json") for stage in ("stage1", "stage2")]
    seconds = sum(each["wall_seconds_this_process"] for each in trainings)
    seconds += load(own / "manifest.json")["steps"]["pseudo"]["wall_seconds"]
    assert facts["wall_seconds"] == pytest.approx(seconds)
    # As left by a job that makes stage 1 again: what stage 2 has tested is of the old one.
    manifest = {**load(own / "manifest.json"), "finished": False}
    (own / "manifest.json").write_text(json.dumps(manifest))
    assert main([*words, "--report-only"]) == 0
    assert "1 of 1 run is missing, unfinished: weak (seed 0)" in capsys.readouterr().out


# -- pseudo-label alone ----------------------------------------------------------------------------


def label(output, *words):
    head = ["pseudo-label", "--dataset", "phantom_tiny/train", "--output", str(output)]
    return [str(word) for word in (*head, *words)]


def from_model(job, *words):
    engine, folder = job
    weights = folder / "stage1" / "model_best.pth"
    return ("--engine", engine, "--config-file", STAGE1, "--weights", weights, *words)


def saved(job):
    return (job[1] / PSEUDO).with_name("train_pseudo.detections.json")


def boxes(path):
    return {
        (record.image_id, finding.box, finding.score)
        for record in read_coco(path).records
        for finding in record.findings_of(("suspected",))
    }


def test_a_model_gives_what_the_job_gave_and_its_detections_are_taken_again(job, tmp_path, capsys):
    output = tmp_path / "labelled.json"
    assert main(label(output, *from_model(job, "--score-threshold", "0.005"))) == 0
    assert boxes(output) == boxes(job[1] / PSEUDO)
    detections = tmp_path / "labelled.detections.json"
    made = detections.stat().st_mtime_ns
    higher = from_model(job, "--score-threshold", "0.008", "--overwrite", "--keep-unlabelled")
    assert main(label(output, *higher)) == 0
    assert detections.stat().st_mtime_ns == made
    assert "taking the detections" in capsys.readouterr().out
    assert boxes(output) == {box for box in boxes(job[1] / PSEUDO) if box[2] >= 0.008}
    assert len(read_coco(output).records) == 28


def test_saved_detections_need_no_model(job, tmp_path, capsys):
    output = tmp_path / "labelled.json"
    words = ("--detections", saved(job), "--score-threshold", "0.005")
    assert main(label(output, *words)) == 0
    assert boxes(output) == boxes(job[1] / PSEUDO)
    assert "<- threshold" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"labelled.json", "labelled.summary.json"}


def test_the_default_threshold_adds_nothing_here_and_says_so(job, tmp_path, capsys):
    output = tmp_path / "labelled.json"
    assert main(label(output, "--detections", saved(job))) == 0
    assert "warning: no pseudo-box: no detection of a normal image reaches 0.8" in (
        capsys.readouterr().out
    )
    assert boxes(output) == set()
    assert load(tmp_path / "labelled.summary.json")["provenance"]["nms_threshold"] == 0.3


def test_an_output_that_exists_is_refused_before_anything_is_computed(job, tmp_path, refused):
    output = tmp_path / "labelled.json"
    output.write_text("precious")
    assert "--overwrite" in refused(*label(output, *from_model(job)))
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.json"]
    assert output.read_text() == "precious"


def test_the_labelled_file_itself_is_never_the_output(job, datasets, refused):
    source = datasets / "phantom_tiny" / "train.json"
    words = label(source, "--detections", saved(job), "--overwrite")
    assert "is the file to be labelled itself" in refused(*words)


def test_weights_with_other_classes_are_refused(job, tmp_path, refused):
    engine, folder = job
    words = ("--engine", engine, "--config-file", STAGE1)
    weights = ("--weights", folder / "stage2" / "model_last.pth")
    error = refused(*label(tmp_path / "labelled.json", *words, *weights))
    assert "DATASETS.CLASSES is [malignant, suspected] in the file" in error
    assert list(tmp_path.iterdir()) == []


def test_a_pseudo_labelled_set_is_refused_unless_forced(job, tmp_path, refused):
    again = ["pseudo-label", "--dataset", f"again={job[1] / PSEUDO}"]
    words = ["--output", str(tmp_path / "twice.json"), "--detections", str(saved(job))]
    assert "has pseudo-boxes already" in refused(*again, *words)
    assert main([*again, *words, "--score-threshold", "0.005", "--force"]) == 0
    assert boxes(tmp_path / "twice.json") == boxes(job[1] / PSEUDO)


def test_boxes_on_normal_images_are_refused(job, tmp_path, refused):
    words = ["pseudo-label", "--dataset", "phantom_tiny/train_oracle"]
    words += ["--output", tmp_path / "labelled.json", "--detections", saved(job)]
    error = refused(*words)
    assert "normal images carry boxes already" in error
    assert "benign, by oracle" in error


def test_detections_of_another_version_of_the_annotations_are_refused(
    job, tmp_path, datasets, refused
):
    content = load(datasets / "phantom_tiny" / "train.json")
    for image in content["images"]:
        image["file_name"] = str(datasets / "phantom_tiny" / image["file_name"])
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    words = ["pseudo-label", "--dataset", f"a={changed}", "--output", tmp_path / "labelled.json"]
    error = refused(*words, "--detections", saved(job))
    assert "was made on another annotation file than" in error
    assert "16 of its 28 image ids are there" in error
    # and detections that lack images, or are of another set, whatever is forced
    first = next(i for i in content["images"] if i["supervision"] == "normal")
    first["id"] += 1000
    changed.write_text(json.dumps(content))
    error = refused(*words, "--detections", saved(job), "--force")
    assert "1 of the 16 images to label was not run" in error
    for image in content["images"]:
        image["id"] += 1000
    for annotation in content["annotations"]:
        annotation["image_id"] += 1000
    changed.write_text(json.dumps(content))
    error = refused(*words, "--detections", saved(job), "--force")
    assert "made on another data set: none of the 28 image ids" in error
    assert not (tmp_path / "labelled.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "or --detections"),
        (("--config-file", STAGE1), "--weights"),
        (("--detections", "d.json", "--weights", "w.pth"), "in place of a model"),
        (
            ("--config-file", STAGE1, "--weights", "w.pth", "--target-classes", "x"),
            "TARGET_CLASSES",
        ),
        (("--detections", "d.json", "--score-threshold", "8"), "SCORE_THRESHOLD is 8.0"),
        (("--detections", "d.json", "--nms-threshold", "-1"), "NMS_THRESHOLD is -1.0"),
        (
            ("--detections", "d.json", "--of", "labels", "--score-threshold", "0.9"),
            "--score-threshold has no meaning with --of labels: leave it out",
        ),
        (
            ("--detections", "d.json", "--fraction", "0.9"),
            "--fraction has no meaning with --of suspected: leave it out",
        ),
        (("--detections", "absent.json"), "absent.json does not exist"),
        (("--config-file", STAGE1, "--weights", "absent.pth"), "absent.pth does not exist"),
    ],
    ids=[
        *("nothing", "no-weights", "both", "targets", "score", "nms", "of-labels", "of-suspected"),
        *("no-file", "no-checkpoint"),
    ],
)
def test_arguments_that_make_no_sense(words, told, tmp_path, refused):
    engine = ("--engine", "torchvision")
    assert told in refused(*label(tmp_path / "labelled.json", *engine, *words))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_data_set_is_refused(tmp_path, refused):
    words = ("--output", tmp_path / "labelled.json", "--detections", "d.json")
    assert "clinic/train" in refused("pseudo-label", "--dataset", "clinic/train", *words)


# -- the oracle: the same path with boxes that somebody knows --------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_oracle_trains_benign_boxes_as_their_own_class_and_scores_malignant_only(
    engine, tmp_path
):
    words = ["train-net", "--config-file", ORACLE, "--engine", engine]
    assert main([*words, "OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "2"]) == 0
    meta = load(tmp_path / "inference" / "phantom_tiny" / "test" / "detections.meta.json")
    assert meta["categories"] == {"1": "malignant", "2": "benign"}
    report = load(tmp_path / "inference" / "phantom_tiny" / "test" / "report.json")
    assert report["settings"]["target_classes"] == ["malignant"]
    cfg = load_config(load_engine(engine).default_cfg(), ORACLE)
    items = recipe.training_items(cfg)
    normals = [items[number][1].targets for number in range(16)]
    benign = [targets for targets in normals if len(targets.boxes)]
    assert 0 < len(benign) < 16
    assert all(set(targets.labels.tolist()) == {2} for targets in benign)
    assert all(targets.is_normal is not bool(len(targets.boxes)) for targets in normals)


def test_a_class_without_a_box_is_refused(refused, tmp_path):
    words = ("train-net", "--config-file", ORACLE, "--engine", "torchvision")
    error = refused(*words, "OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", "phantom_tiny/train")
    assert "no image has a box of the class 'benign'" in error
    assert "leave it out of DATASETS.CLASSES" in error
