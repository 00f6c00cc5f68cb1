"""A model under another config than its own: which keys change its scores, and the warning."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

import simfrcnn
from simfrcnn.artifacts import read_detections
from simfrcnn.data.coco import read_coco
from simfrcnn.engines.common.checkpoints import read_checkpoint, write_checkpoint
from simfrcnn.engines.common.score_keys import (
    OF_LOOKS,
    OF_SCORES,
    keys_of_detection,
    other_scores,
)
from simfrcnn.workflows.pseudo_label import detect
from simfrcnn.workflows.testing import judge_model
from support.classifier_examples import classifier_config
from support.examples import engine_named, smoke_config, write_tiny_set
from support.untrained import write_untrained

pytestmark = pytest.mark.torchvision
LOOK = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SOURCE", "input")
EXPONENT = "MODEL.SECOND_LOOK.FIRST_EXPONENT"
OTHER: dict[str, Any] = {
    "INPUT.MAMMO.SIZE": "[96, 64]",
    "INPUT.MAMMO.CROP_TO_BREAST": False,
    "INPUT.MAMMO.KEEP_ASPECT": False,
    "INPUT.MAMMO.WINDOW": "[10, 200]",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 77,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 7,
    "MODEL.RPN.NMS_THRESH": 0.6,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.3,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.4,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 3,
    "TEST.DETECTIONS_PER_IMAGE": 9,
    "TEST.FLIPS": "all",
    "TEST.AMP.ENABLED": True,
    "DATASETS.TARGET_CLASSES": "[malignant,benign]",
    "EVAL.SCORE_THRESHOLD": 0.2,
    "EVAL.POOLING": "noisy_or",
    "MODEL.SECOND_LOOK.CONTEXT": 2.0,
    "MODEL.SECOND_LOOK.MIN_MM": 30.0,
    "MODEL.SECOND_LOOK.SIZE": 32,
    "MODEL.SECOND_LOOK.DETECTIONS_PER_IMAGE": 2,
    EXPONENT: 0.75,
    "MODEL.SECOND_LOOK.SOURCE": "native",
}
TWO = ("DATASETS.CLASSES", "[malignant,benign]", "MODEL.ROI_HEADS.NUM_CLASSES", 2)


@pytest.fixture
def engine() -> Any:
    return engine_named("torchvision")


def test_every_key_of_scores_is_compared(engine: Any) -> None:
    assert set(OTHER) == {*OF_SCORES, *OF_LOOKS}
    own, defaults = smoke_config(engine, "fpn", *TWO, *LOOK), engine.default_cfg()
    assert other_scores(own, own.dump(), defaults) == {}
    for key, value in OTHER.items():
        cfg = smoke_config(engine, "fpn", *TWO, *LOOK, key, value)
        (found,) = other_scores(cfg, own.dump(), defaults).items()
        name, (here, there) = found
        assert name == key
        assert here == (yaml.safe_load(value) if str(value).startswith("[") else value)
        assert there != here


def test_results_state_every_key_of_detection_but_the_precision(engine: Any) -> None:
    own = keys_of_detection(smoke_config(engine, "fpn", *TWO, *LOOK))
    detecting = {key for key in OTHER if not key.startswith(("DATASETS.", "EVAL.", "TEST.AMP."))}
    assert set(own) == detecting
    for key, value in OTHER.items():
        changed = keys_of_detection(smoke_config(engine, "fpn", *TWO, *LOOK, key, value))
        other = {k for k in changed if changed[k] != own[k]}
        assert other == ({key} if key in detecting else set()), key
    assert json.loads(json.dumps(own)) == own
    without = set(keys_of_detection(smoke_config(engine, "fpn")))
    assert without == detecting - set(OF_LOOKS)
    of_classifier = set(keys_of_detection(classifier_config(engine)))
    assert of_classifier < without
    assert not any(key.startswith(("MODEL.RPN.", "MODEL.ROI_HEADS.")) for key in of_classifier)


def test_keys_that_train_alone_are_not(engine: Any) -> None:
    own = smoke_config(engine, "fpn", *LOOK)
    words = ("SOLVER.BASE_LR", 0.5, "MODEL.SECOND_LOOK.WEIGHT", 3, "INPUT.MAMMO.VERTICAL_FLIP", 0)
    cfg = smoke_config(engine, "fpn", *LOOK, *words)
    assert other_scores(cfg, own.dump(), engine.default_cfg()) == {}


def test_a_second_look_is_compared_where_both_have_one(engine: Any) -> None:
    off, on = smoke_config(engine, "fpn"), smoke_config(engine, "fpn", *LOOK, EXPONENT, 1)
    for cfg, own in ((off, on), (on, off)):
        assert other_scores(cfg, own.dump(), engine.default_cfg()) == {}


def test_a_classifier_reads_no_keys_of_regions(engine: Any) -> None:
    own = classifier_config(engine)
    stored = yaml.safe_load(own.dump())
    stored["MODEL"]["RPN"]["NMS_THRESH"] = 0.1
    stored["EVAL"]["SCORE_THRESHOLD"] = 0.25
    assert other_scores(own, yaml.safe_dump(stored), engine.default_cfg()) == {
        "EVAL.SCORE_THRESHOLD": (0.5, 0.25)
    }


def test_a_key_that_an_older_model_lacks_means_what_it_meant_then(engine: Any) -> None:
    """As for the model that ships: the plain product of both scores."""
    cfg = smoke_config(engine, "fpn", *LOOK)
    stored = yaml.safe_load(cfg.dump())
    del stored["MODEL"]["SECOND_LOOK"]["FIRST_EXPONENT"]
    del stored["MODEL"]["SECOND_LOOK"]["CONTEXT"]  # today's default
    other = other_scores(cfg, yaml.safe_dump(stored), engine.default_cfg())
    assert other == {EXPONENT: (0.5, 1.0)}


def test_detections_for_pseudo_boxes_state_their_keys_and_older_ones_are_taken(
    engine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = write_untrained(tmp_path / "model.pth")
    annotated = read_coco(write_tiny_set(tmp_path / "data"))
    cfg, found = smoke_config(engine, "fpn"), tmp_path / "found.json"

    def takes_them(cfg: Any) -> bool:
        caplog.clear()
        with caplog.at_level(logging.INFO, "simfrcnn"):
            detect(engine, cfg, weights, annotated, annotated.records, found)
        return "taking the detections in" in caplog.text

    assert not takes_them(cfg)
    assert read_detections(found).provenance["detected_with"] == keys_of_detection(cfg)
    assert takes_them(cfg)
    sidecar = found.with_name("found.meta.json")
    written = json.loads(sidecar.read_text())
    del written["provenance"]["detected_with"]
    sidecar.write_text(json.dumps(written))
    assert takes_them(cfg)
    assert not takes_them(smoke_config(engine, "fpn", "TEST.DETECTIONS_PER_IMAGE", 3))


def test_whoever_runs_it_under_another_config_is_told(
    engine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ("INPUT.MAMMO.SIZE", "[64, 64]", *LOOK)
    weights = write_untrained(tmp_path / "model.pth", *LOOK, EXPONENT, 1)
    path = write_tiny_set(tmp_path / "data")
    cfg = smoke_config(
        engine,
        "fpn",
        *own,
        *("MODEL.RPN.POST_NMS_TOPK_TEST", 4, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
        *("TEST.DETECTIONS_PER_IMAGE", 3, "EVAL.BOOTSTRAP_REPLICATES", 50),
        *("DATASETS.FILES", f"[tiny={path}]", "DATASETS.VAL", "[]", "DATASETS.TEST", "[tiny]"),
        *("DATASETS.TRAIN", "[tiny]", "OUTPUT_DIR", tmp_path / "run"),
    )
    written = tmp_path / "config.yaml"
    written.write_text(cfg.dump())
    annotated = read_coco(path)

    def told(run: Any) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "simfrcnn"):
            run()
        return [m for m in caplog.messages if "in the config that" in m]

    runs = {
        "judged": lambda: judge_model(engine, cfg, weights),
        "pseudo": lambda: detect(
            engine, cfg, weights, annotated, annotated.records, tmp_path / "found.json"
        ),
        "loaded": lambda: simfrcnn.load(weights, config_file=written, device="cpu"),
    }
    for name, run in runs.items():
        (message,) = told(run)
        assert message.startswith(f"{EXPONENT} is 0.5 here, and 1.0 in the config that "), name
        assert str(weights) in message
        assert f"set {EXPONENT} to 1.0" in message
    assert told(lambda: simfrcnn.load(weights, device="cpu")) == []
    content = read_checkpoint(weights)
    content["config"] = content["config"].replace("FIRST_EXPONENT: 1.0", "FIRST_EXPONENT: 0.5")
    write_checkpoint(weights, content)
    (tmp_path / "found.json").unlink()
    assert [told(run) for run in runs.values()] == [[], [], []]
