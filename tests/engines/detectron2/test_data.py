"""Samples as Detectron2 takes them, its catalogues, and detections in the stored image's pixels."""

import dataclasses
import json

import pytest
import torch

from simfrcnn.errors import ConfigError, DataError
from simfrcnn.structures import Frame, ImageTargets
from simfrcnn.training import recipe

pytestmark = pytest.mark.detectron2


def test_a_sample_becomes_the_librarys_dict(make_samples):
    from simfrcnn.engines.detectron2.data import to_dicts

    positive, normal = to_dicts(make_samples("pn"))
    assert positive["image"].shape == (3, 128, 128)
    assert (positive["height"], positive["width"]) == (256, 256)
    assert positive["instances"].image_size == (128, 128)
    assert positive["instances"].gt_boxes.tensor.tolist() == [[20.0, 30.0, 60.0, 75.0]]
    assert positive["instances"].gt_classes.tolist() == [0]
    assert (positive["image_id"], positive["file_name"]) == (0, "/nowhere/0.png")
    assert (positive["is_normal"], normal["is_normal"]) == (False, True)
    assert len(normal["instances"]) == 0


def test_the_train_loader_gives_the_recipes_pairs(make_cfg):
    from simfrcnn.engines.detectron2 import build_train_loader

    cfg = make_cfg("c4", "SOLVER.MAX_ITER", "4", "SOLVER.IMS_PER_BATCH", "4")
    items = recipe.training_items(cfg)
    batches = list(build_train_loader(cfg))
    assert len(batches) == 4
    for step, batch in enumerate(batches):
        assert [entry["is_normal"] for entry in batch] == [False, False, True, True]
        first, second = items.records_of(2 * step), items.records_of(2 * step + 1)
        expected = [first[0], second[0], first[1], second[1]]
        assert [entry["image_id"] for entry in batch] == [record.image_id for record in expected]


def test_a_loader_without_our_trainer_does_not_replay(make_cfg):
    from simfrcnn.engines.detectron2 import build_train_loader

    with pytest.raises(ConfigError, match=r"REPLAY\.FRACTION is 0\.5.*Trainer, or .* to 0"):
        build_train_loader(make_cfg("c4", "DATASETS.REPLAY.FRACTION", "0.5"))


def test_the_test_loader_gives_every_image_once_without_targets(make_cfg):
    from simfrcnn.engines.detectron2 import build_test_loader

    loader = build_test_loader(make_cfg("c4", "DATALOADER.NUM_WORKERS", "1"), "discs/val")
    batches = list(loader)
    assert [entry["image_id"] for (entry,) in batches] == [1, 2, 3, 4, 5, 6]
    assert all("instances" not in entry for (entry,) in batches)


def test_data_sets_are_registered_and_again_without_complaint(make_cfg):
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import BoxMode

    from simfrcnn.engines.detectron2 import register_datasets

    cfg = make_cfg("c4", "DATASETS.TEST", "[discs/val]")
    register_datasets(cfg)
    register_datasets(cfg)
    dicts = DatasetCatalog.get("discs/train")
    assert len(dicts) == 9
    assert [len(entry["annotations"]) for entry in dicts] == [1] * 5 + [0] * 4
    assert dicts[0]["supervision"] == "boxes"
    assert dicts[8]["supervision"] == "normal"
    assert dicts[0]["patient_id"] == "train0"
    (annotation,) = dicts[0]["annotations"]
    assert annotation["category_id"] == 0
    assert annotation["bbox_mode"] is BoxMode.XYXY_ABS
    (annotated,) = recipe.load_sets(cfg, ["discs/train"])
    assert tuple(annotation["bbox"]) == annotated.records[0].findings[0].box
    metadata = MetadataCatalog.get("discs/val")
    assert metadata.thing_classes == ["malignant"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}
    assert metadata.json_file == str(recipe.load_sets(cfg, ["discs/val"])[0].path)


def test_detections_are_mapped_back_by_the_frame():
    from detectron2.structures import Boxes, Instances

    from simfrcnn.engines.detectron2.meta_arch import _in_original_pixels

    # Cropped at x = 10, doubled, flipped left-right in an input 100 pixels wide; y only doubled.
    frame = Frame(-2.0, 120.0, 2.0, 0.0, original_height=40, original_width=60)
    instances = Instances(
        (100, 100),
        pred_boxes=Boxes(torch.tensor([[20.0, 10.0, 60.0, 30.0], [0.0, 90.0, 50.0, 100.0]])),
        scores=torch.tensor([0.9, 0.8]),
        pred_classes=torch.tensor([0, 0]),
    )
    mapped = _in_original_pixels(instances, frame, 0.5)
    assert mapped.image_size == (40, 60)
    # x = (120 - x_input) / 2: 60..20 -> 30..50. The second box lies in the padding below row 80.
    assert mapped.pred_boxes.tensor.tolist() == [[30.0, 5.0, 50.0, 15.0]]
    assert mapped.scores.tolist() == pytest.approx([0.9])


def test_an_input_without_frame_gets_the_librarys_own_postprocessing(make_cfg, make_samples):
    from detectron2.modeling import GeneralizedRCNN

    from simfrcnn.engines.detectron2 import build_model
    from simfrcnn.engines.detectron2.data import to_dicts

    torch.manual_seed(0)
    model = build_model(make_cfg("c4", "INPUT.MAMMO.SIZE", "[128, 128]")).eval()
    entries = to_dicts(make_samples("n"))
    with torch.no_grad():
        (framed,) = model(entries)
        del entries[0]["frame"]
        (plain,) = model(entries)
        (expected,) = GeneralizedRCNN.inference(model, entries)
    assert torch.equal(plain["instances"].scores, expected["instances"].scores)
    library_boxes = expected["instances"].pred_boxes.tensor
    assert torch.equal(plain["instances"].pred_boxes.tensor, library_boxes)
    # The sample's frame is a plain halving, which the library's height and width say as well.
    assert torch.allclose(framed["instances"].pred_boxes.tensor, library_boxes, atol=1e-3)


def test_our_evaluator_and_coco_evaluator_agree_on_ap50(make_cfg, tmp_path):
    """Perfect detections but for one missed and one false: AP by hand and by Detectron2's own."""
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOEvaluator, DatasetEvaluators
    from detectron2.structures import Boxes, Instances

    from simfrcnn.engines.detectron2 import build_evaluator, build_test_loader, register_datasets

    cfg = make_cfg("c4")
    register_datasets(cfg)
    ours = build_evaluator(cfg, "discs/val", tmp_path / "ours")
    theirs = COCOEvaluator(
        "discs/val",
        tasks=("bbox",),
        distributed=False,
        output_dir=str(tmp_path / "theirs"),
        use_fast_impl=False,
    )
    assert MetadataCatalog.get("discs/val").json_file
    evaluators = DatasetEvaluators([ours, theirs])
    evaluators.reset()
    (annotated,) = recipe.load_sets(cfg, ["discs/val"])
    for (entry,), record in zip(
        build_test_loader(cfg, "discs/val"), annotated.records, strict=True
    ):
        # Images 1 and 2: their box. Image 3: nothing. Image 4, normal: one false detection.
        boxes = [f.box for f in record.findings] if record.image_id < 3 else []
        boxes = [(5.0, 5.0, 25.0, 25.0)] if record.image_id == 4 else boxes
        found = Instances(
            (record.height, record.width),
            pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
            scores=torch.full((len(boxes),), 0.6 if record.image_id == 4 else 0.9),
            pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        )
        evaluators.process([entry], [{"instances": found}])
    results = evaluators.evaluate()
    # Precision 1 up to recall 2/3, nothing beyond: 67 of COCO's 101 recall points.
    assert results["finding"]["ap50"] == pytest.approx(67 / 101)
    assert results["bbox"]["AP50"] == pytest.approx(100 * 67 / 101)
    # Cases: positives .9 .9 0, normals .6 0 0. Of nine pairs 6 are won and two tied.
    assert results["case"]["auc"] == pytest.approx(7 / 9)
    assert results["case"]["sensitivity"] == pytest.approx(2 / 3)
    assert results["case"]["specificity"] == pytest.approx(2 / 3)
    report = json.loads((tmp_path / "ours/report.json").read_text())
    assert report["figures"]["case/auc"]["value"] == pytest.approx(7 / 9)


def test_training_inputs_must_say_who_is_normal(make_cfg, make_samples):
    from simfrcnn.engines.detectron2 import build_model
    from simfrcnn.engines.detectron2.data import to_dicts

    model = build_model(make_cfg("c4"))
    entries = to_dicts(make_samples("pn"))
    del entries[1]["is_normal"]
    with pytest.raises(ValueError, match=r"/nowhere/1\.png: 'is_normal' is missing"):
        model(entries)
    entries[1]["is_normal"] = True
    entries[0]["is_normal"] = True
    with pytest.raises(ValueError, match=r"/nowhere/0\.png: a normal image carries training boxes"):
        model(entries)


LABELLED = ("DATASETS.LABELS_PER_ITEM", "1", "SOLVER.IMS_PER_BATCH", "3")


def test_dicts_of_another_mapper_can_carry_labels(make_cfg, make_samples):
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2 import build_model, training_losses
    from simfrcnn.engines.detectron2.data import to_dicts

    torch.manual_seed(0)
    model = build_model(make_cfg("fpn", *LABELLED))
    positive, normal, unknown = make_samples("pnn")
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    labelled = dataclasses.replace(unknown, targets=ImageTargets(*nothing, False, 1, 0.5))
    batch = [positive, normal, labelled]
    torch.manual_seed(1)
    expected = training_losses(model, batch)

    def mapped(**changes):
        """As a mapper of one's own makes them: the library's keys, and ours."""
        keys = ("image", "file_name", "height", "width", "is_normal", "instances")
        own = [{key: entry[key] for key in keys} for entry in to_dicts(batch)]
        own[2] |= {"image_label": 1, "label_weight": 0.5, **changes}
        return own

    torch.manual_seed(1)
    with EventStorage():
        losses = model(mapped())
    assert losses["loss_label"] > 0
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], value) for key, value in expected.items())
    with pytest.raises(DataError, match="'image_label' 2; legal are 1 to 1"):
        model(mapped(image_label=2))
    with pytest.raises(ValueError, match=r"2\.png: a labelled image carries no training boxes"):
        model(mapped(is_normal=True))
    unweighted = mapped()
    del unweighted[2]["label_weight"]
    with pytest.raises(ValueError, match="'image_label' needs a 'label_weight'"):
        model(unweighted)
    with pytest.raises(DataError, match="LABELS_PER_ITEM is 0, so labels do not train"):
        build_model(make_cfg("fpn"))(mapped())


def test_a_teacher_needs_the_samples_of_our_loader_and_our_trainer(make_cfg, make_samples):
    from simfrcnn.engines.detectron2 import build_model, build_train_loader
    from simfrcnn.engines.detectron2.data import to_dicts

    node = "MODEL.SIMFRCNN.LABELS.TEACHER"
    cfg = make_cfg("fpn", *LABELLED, f"{node}.ENABLED", "True", f"{node}.START", "0")
    with pytest.raises(ConfigError, match=r"TEACHER.ENABLED is True, but this loader alone"):
        build_train_loader(cfg)
    entries = to_dicts(make_samples("pn"))
    del entries[0]["sample"]
    with pytest.raises(DataError, match="without 'sample': the teacher"):
        build_model(cfg)(entries)
