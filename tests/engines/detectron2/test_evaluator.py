"""``SimfrcnnEvaluator`` in a Detectron2 project that knows nothing else of simfrcnn."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.settings import EvaluationSettings
from support.forking import run_program

pytestmark = pytest.mark.detectron2
REPOSITORY = Path(__file__).parents[3]
IMAGES = range(1, 7)
POSITIVE = (1, 2, 3)


@pytest.fixture
def registered(data_files, request):
    """The validation discs in Detectron2's catalogue, by its own function; gives the name."""
    from detectron2.data.datasets import register_coco_instances

    name, path = f"plain_{request.node.name}", Path(data_files[1].partition("=")[2])
    register_coco_instances(name, {}, str(path), str(path.parent))
    yield name
    forget(name)


def forget(name):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for catalogue in (DatasetCatalog, MetadataCatalog):
        if name in catalogue:
            catalogue.remove(name)


def found(score, *, label=0, n=1):
    """What a model says of one image: a box at a corner."""
    from detectron2.structures import Boxes, Instances

    return {
        "instances": Instances(
            (120, 120),
            pred_boxes=Boxes(torch.tensor([[5.0, 5.0, 25.0, 25.0]] * n).reshape(-1, 4)),
            scores=torch.full((n,), score),
            pred_classes=torch.full((n,), label),
        )
    }


def evaluator_of(name, **options):
    from simfrcnn.engines.detectron2 import SimfrcnnEvaluator

    return SimfrcnnEvaluator(name, **options)


def judged(name, scores, **options):
    """The evaluator's answer to one box an image, of the given scores."""
    evaluator = evaluator_of(name, **options)
    evaluator.reset()
    for image_id, score in scores.items():
        evaluator.process([{"image_id": image_id}], [found(score)])
    return evaluator.evaluate()


SCORES = {1: 0.9, 2: 0.8, 3: 0.3, 4: 0.6, 5: 0.2, 6: 0.1}


def test_it_takes_classes_and_truth_from_the_catalogue(registered, tmp_path):
    results = judged(registered, SCORES, output_dir=tmp_path)
    assert results["case"]["auc"] == pytest.approx(8 / 9)
    assert results["case"]["sensitivity"] == pytest.approx(2 / 3)
    assert all(isinstance(v, float) for group in results.values() for v in group.values())
    meta = json.loads((tmp_path / "detections.meta.json").read_text())
    assert meta["image_ids"] == list(IMAGES)
    assert meta["categories"] == {"1": "malignant", "2": "benign"}
    assert {
        entry["category_id"] for entry in json.loads((tmp_path / "detections.json").read_text())
    } == {1}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["figures"]["case/auc"]["low"] is None
    assert report["provenance"]["annotations"] == registered


def test_without_a_folder_nothing_is_written(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert judged(registered, SCORES)["image"]["auc"] == pytest.approx(8 / 9)
    assert list(tmp_path.iterdir()) == []


def test_settings_and_classes_of_ones_own(registered, tmp_path):
    strict = EvaluationSettings(bootstrap_replicates=50, score_threshold=0.85)
    # Class 0 of this model is benign, class 1 malignant: only boxes of the latter count.
    evaluator = evaluator_of(
        registered, settings=strict, classes=["benign", "malignant"], output_dir=tmp_path
    )
    for image_id, score in SCORES.items():
        evaluator.process([{"image_id": image_id}], [found(score, label=1)])
    assert evaluator.evaluate()["case"]["sensitivity"] == pytest.approx(1 / 3)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["figures"]["case/sensitivity"]["low"] is not None
    none_counts = evaluator_of(registered, classes=["benign", "malignant"])
    for image_id, score in SCORES.items():
        none_counts.process([{"image_id": image_id}], [found(score, label=0)])
    assert none_counts.evaluate()["case"]["auc"] == 0.5


def test_a_name_of_our_own_catalogue_or_a_file(data_files, tmp_path, monkeypatch):
    path = Path(data_files[1].partition("=")[2])
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic/val.json").write_bytes(path.read_bytes())
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path))
    assert judged("clinic/val", SCORES)["case"]["auc"] == pytest.approx(8 / 9)
    assert judged("no name", SCORES, annotations=path)["case"]["auc"] == pytest.approx(8 / 9)
    with pytest.raises(DataError, match=r"'nowhere/val' has no COCO file.*register_coco_instances"):
        evaluator_of("nowhere/val")


@pytest.mark.parametrize("key", ["supervision", "patient_id", "exam_id"])
def test_a_plain_coco_file_is_refused_by_the_key_it_lacks(key, data_files, tmp_path):
    from detectron2.data.datasets import register_coco_instances

    document = json.loads(Path(data_files[1].partition("=")[2]).read_text())
    for entry in document["images"]:
        del entry[key]
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(document))
    register_coco_instances("plain_coco", {}, str(path), str(tmp_path))
    try:
        with pytest.raises(DataError, match=rf"plain\.json: .*'{key}' in 6 of 6 images"):
            evaluator_of("plain_coco")
    finally:
        forget("plain_coco")


def test_images_that_were_not_run_or_are_not_there_are_refused(registered):
    with pytest.raises(ArtifactError, match=r"image 6 \(val_5\.png\) was not run"):
        judged(registered, {i: s for i, s in SCORES.items() if i != 6})
    with pytest.raises(ArtifactError, match="image 9, which the annotation file lacks"):
        judged(registered, {**SCORES, 9: 0.5})


def test_an_image_that_was_run_twice_counts_once(registered):
    evaluator = evaluator_of(registered)
    for image_id, score in [*SCORES.items(), (1, 0.0), (4, 0.99)]:
        evaluator.process([{"image_id": image_id}], [found(score)])
    once = judged(registered, SCORES)
    assert evaluator.evaluate() == once
    evaluator.reset()
    with pytest.raises(ArtifactError, match=r"image 1 .* was not run"):
        evaluator.evaluate()


def test_a_class_that_the_model_should_not_have_is_refused(registered):
    evaluator = evaluator_of(registered, classes=["malignant"])
    with pytest.raises(ArtifactError, match=r"image 1: the model found class 1.*1 classes, \['mal"):
        evaluator.process([{"image_id": 1}], [found(0.5, label=1)])
    evaluator.process([{"image_id": 1}], [found(0.5, label=1, n=0)])


# -- with Detectron2's hooks -----------------------------------------------------------------------

AUC_OF_STEP = {2: 6 / 9, 4: 1.0, 6: 8 / 9}
SCORES_OF_STEP = {
    2: {1: 0.9, 2: 0.2, 3: 0.1, 4: 0.6, 5: 0.15, 6: 0.05},
    4: {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.2, 6: 0.1},
    6: SCORES,
}


class Pretender(torch.nn.Module):
    """A detector whose answer depends on how many steps it was trained."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, batch):
        scores = SCORES_OF_STEP[int(self.steps)]
        return [found(scores[entry["image_id"]]) for entry in batch]


def trained_with_hooks(name, folder, evaluators):
    """Six steps of a bare Detectron2 loop with EvalHook and BestCheckpointer; gives the storage."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.data import DatasetCatalog, build_detection_test_loader
    from detectron2.engine import TrainerBase, hooks
    from detectron2.evaluation import inference_on_dataset
    from detectron2.utils.events import JSONWriter

    model = Pretender()
    loader = build_detection_test_loader(
        DatasetCatalog.get(name), mapper=lambda entry: entry, num_workers=0
    )

    class Loop(TrainerBase):
        def run_step(self):
            model.steps += 1

    loop = Loop()
    loop.register_hooks(
        [
            hooks.EvalHook(2, lambda: inference_on_dataset(model, loader, evaluators)),
            hooks.BestCheckpointer(2, DetectionCheckpointer(model, str(folder)), "case/auc"),
            hooks.PeriodicWriter([JSONWriter(str(folder / "metrics.json"))], period=2),
        ]
    )
    loop.train(0, 6)
    return loop.storage


@pytest.fixture
def quiet():
    """Detectron2's writers attach nothing, but its level is changed by some of its functions."""
    logger = logging.getLogger("detectron2")
    before = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = before


def test_the_best_checkpoint_hook_keeps_the_highest_case_auc(registered, tmp_path, quiet):
    from detectron2.evaluation import COCOEvaluator, DatasetEvaluators

    coco = COCOEvaluator(registered, tasks=("bbox",), distributed=False, use_fast_impl=False)
    both = DatasetEvaluators([evaluator_of(registered, output_dir=tmp_path / "ours"), coco])
    storage = trained_with_hooks(registered, tmp_path, both)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["model"]["steps"] == 4
    history = [value for value, _ in storage.history("case/auc").values()]
    assert history == pytest.approx(list(AUC_OF_STEP.values()))
    assert "bbox/AP50" in storage.latest()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["case/auc"] == pytest.approx(AUC_OF_STEP[6])


def test_an_undefined_figure_is_not_stored_and_the_hook_says_so(
    data_files, tmp_path, quiet, caplog
):
    from detectron2.data.datasets import register_coco_instances

    document = json.loads(Path(data_files[1].partition("=")[2]).read_text())
    document["annotations"] = []
    for entry in document["images"]:
        entry.update(supervision="normal", pathology="normal")
    path = tmp_path / "normals.json"
    path.write_text(json.dumps(document))
    register_coco_instances("normals_only", {}, str(path), str(tmp_path))
    try:
        with caplog.at_level(logging.WARNING, logger="detectron2"):
            storage = trained_with_hooks("normals_only", tmp_path, evaluator_of("normals_only"))
    finally:
        forget("normals_only")
    assert "case/auc" not in storage.latest()
    assert storage.latest()["case/specificity"][0] == 0.5
    assert not (tmp_path / "model_best.pth").exists()


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import launch
from detectron2.utils import comm
from support.forking import fork_processes
from test_evaluator import SCORES, evaluator_of, found

def main(path, folder):
    register_coco_instances("two", {}, path, str(Path(path).parent))
    # The second part was filled up with an image of the first, on which it differs a little.
    own = ({1: 0, 2: 0, 3: 0, 4: 0}, {5: 0, 6: 0, 1: 0.05, 4: -0.5})[comm.get_rank()]
    answers = []
    for distributed in (True, False):
        evaluator = evaluator_of("two", output_dir=folder, distributed=distributed)
        for image_id, change in own.items():
            evaluator.process([{"image_id": image_id}], [found(SCORES[image_id] + change)])
        try:
            answers.append(evaluator.evaluate())
        except Exception as error:
            answers.append(str(error))
    Path(f"{folder}/rank{comm.get_rank()}.json").write_text(json.dumps(answers))

if __name__ == "__main__":
    fork_processes()
    launch(main, 2, dist_url="auto", args=(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_say_what_one_says(registered, data_files, tmp_path):
    script = tmp_path / "two.py"
    place = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
    script.write_text(place + TWO_PROCESSES)
    words = [script, data_files[1].partition("=")[2], tmp_path]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = run_program(words, cwd=tmp_path, logs=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0][0] == judged(registered, SCORES)
    assert ranks[1][0] is None
    # Alone, each has seen a part.
    assert "image 5 (val_4.png) was not run" in ranks[0][1]
    assert "image 2 (val_1.png) was not run" in ranks[1][1]
    meta = json.loads((tmp_path / "detections.meta.json").read_text())
    assert meta["image_ids"] == list(IMAGES)
    entries = json.loads((tmp_path / "detections.json").read_text())
    scores = {entry["image_id"]: entry["score"] for entry in entries}
    assert scores == pytest.approx(SCORES)
