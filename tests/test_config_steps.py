"""Every shipped config and every rung of every ladder takes two steps, on tiny images.

On both engines those of ``smoke/``, ``sim_r101``, the classifiers and the second look on film; the
others on one. Networks are reduced where a step of the whole one is dear (the other two of 101
layers that have a backbone of their own take one step), and configs whose steps run the same code,
such as rungs that differ in their data alone, take them once.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.config import is_classifier
from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.contract import loss_keys
from simfrcnn.ladder.plan import plan_runs, read_ladder
from support.classifier_examples import TINY as TINY_CLASSIFIER
from support.commands import ONE_ENGINE
from support.config_steps import (
    LADDERS,
    REDUCED,
    REDUCED_CLASSIFIER,
    SHIPPED,
    SMOKE,
    first_steps,
    keys_of,
    load,
    two_steps,
)
from support.examples import CONFIGS, ENGINE_PARAMETERS, TINY_BACKBONE, engine_named
from support.imagenet import random_timm_model, write_imagenet_pth


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request):
    return engine_named(request.param)


@pytest.fixture(scope="module")
def resnet101(tmp_path_factory):
    path = write_imagenet_pth(tmp_path_factory.mktemp("weights") / "resnet101.pth", depth=101)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    path = write_imagenet_pth(tmp_path_factory.mktemp("weights") / "resnet50.pth", depth=50)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tf_efficientnet_lite0.pth"
    torch.save(random_timm_model("tf_efficientnet_lite0"), path)
    return path


@pytest.fixture(scope="module")
def seresnet101(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "seresnet101.pth"
    torch.save(random_timm_model("seresnet101"), path)
    yield path
    path.unlink()


@pytest.mark.parametrize("name", SMOKE)
def test_smoke_configs_take_two_steps(engine, name):
    is_detector = not is_classifier(load(engine, name))
    cfg = load(engine, name, *(REDUCED if is_detector else REDUCED_CLASSIFIER))
    for losses in two_steps(engine, cfg):
        assert tuple(losses) == loss_keys(cfg)
        assert all(0 <= loss < 10 for loss in losses.values())


CLASSIFIERS = {
    "classifier_r50.yaml": "resnet50",
    "cbis/classifier.yaml": "lite0",
    "chest_xray/classifier.yaml": "lite0",
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_take_two_steps_from_imagenet_weights(engine, name, request):
    weights = request.getfixturevalue(CLASSIFIERS[name])
    cfg = load(engine, name, *REDUCED_CLASSIFIER, "MODEL.WEIGHTS", weights)
    assert is_classifier(cfg)
    for losses in two_steps(engine, cfg):
        assert tuple(losses) == loss_keys(cfg) == ("loss_image",)
        assert 0 < losses["loss_image"] < 10


def test_the_second_look_at_film_takes_two_steps_from_weights_of_timm(engine, lite0):
    weights = ("MODEL.WEIGHTS", lite0, "MODEL.SECOND_LOOK.BACKBONE_WEIGHTS", lite0)
    small = ("MODEL.SECOND_LOOK.SIZE", "32", "MODEL.SECOND_LOOK.BATCH_SIZE", "4")
    cfg = load(engine, "cbis/second_look.yaml", *REDUCED, *weights, *small)
    for losses in two_steps(engine, cfg):
        assert tuple(losses) == loss_keys(cfg) == (*LOSS_KEYS, "loss_second_look")
        assert all(0 <= loss < 10 for loss in losses.values()), losses
        assert losses["loss_second_look"] > 0.1


# Of 101 layers, which their tests below step as they are.
WHOLE = {
    "sim_r101.yaml": "resnet101",
    "sim_dcn_r101.yaml": "resnet101",
    "sim_seresnet101.yaml": "seresnet101",
}
SMALL_LOOK = (
    *("MODEL.SECOND_LOOK.SIZE", "32", "MODEL.SECOND_LOOK.BATCH_SIZE", "4"),
    *("MODEL.SECOND_LOOK.BACKBONE", "", "MODEL.SECOND_LOOK.BACKBONE_WEIGHTS", ""),
)
# What a step on samples that are ready does not see.
UNSEEN = (
    *("EVAL.", "TEST.", "PSEUDO.", "DATALOADER.", "INPUT.", "SEED", "VERSION", "SOLVER.MAX_ITER"),
    *("SOLVER.STEPS", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.WARMUP", "SOLVER.IMS_PER_BATCH"),
)
OF_DATA = ("DATASETS.TRAIN", "DATASETS.VAL", "DATASETS.TEST", "DATASETS.FILES", "DATASETS.REPLAY")


def reduced(cfg, resnet50):
    """The config with a small network, from weights where its own asks for some."""
    small = cfg.clone()
    small.defrost()
    is_frozen = cfg.MODEL.RESNETS.NORM == "FrozenBN"
    if is_classifier(cfg):
        is_tiny = is_frozen and cfg.MODEL.TIMM.NAME
        weights = resnet50 if is_frozen and not is_tiny else ""
        words = [*REDUCED_CLASSIFIER, *(TINY_CLASSIFIER if is_tiny else ())]
        words += ["MODEL.WEIGHTS", str(weights)]
    elif "fpn" in cfg.MODEL.BACKBONE.NAME:
        words = [*REDUCED, *TINY_BACKBONE, "MODEL.WEIGHTS", ""]
    elif cfg.MODEL.RESNETS.DEPTH == 101:
        words = [*REDUCED, "MODEL.RESNETS.DEPTH", 50, "MODEL.WEIGHTS", str(resnet50)]
    else:  # a ResNet-18 from scratch
        assert not cfg.MODEL.WEIGHTS
        words = list(REDUCED)
    look = SMALL_LOOK if cfg.MODEL.SECOND_LOOK.ENABLED else ()
    small.merge_from_list([*words, *look])
    return small


def what_a_step_sees(cfg):
    keys = keys_of(cfg).items()
    return str(sorted((k, str(v)) for k, v in keys if not k.startswith((*UNSEEN, *OF_DATA))))


def distinct(named, resnet50):
    """Reduced configs whose steps differ, each with the first name it goes by."""
    steps = {}
    for name, cfg in named:
        small = reduced(cfg, resnet50)
        steps.setdefault(what_a_step_sees(small), (name, small))
    return steps


def shipped(engine):
    names = [name for name in SHIPPED if name not in (*WHOLE, *SMOKE)]
    return [(name, load(engine, name)) for name in names]


def rungs(engine, folder):
    """Of one seed: the others differ from it in the seed."""
    for ladder in (read_ladder(CONFIGS / name) for name in LADDERS):
        one_seed = dataclasses.replace(ladder, seeds=ladder.seeds[:1])
        for run in plan_runs(one_seed, engine, folder):
            yield from ((f"{ladder.path.name}: {run.rung.name}", cfg) for cfg in run.configs)


def require_two_steps(engine, named):
    for name, cfg in named:
        # Inception-v3 does not pad: of 64 pixels nothing is left.
        size_px = 128 if "inception" in cfg.MODEL.TIMM.NAME else 64
        for losses in first_steps(engine, cfg, 2, size_px):
            assert tuple(losses) == loss_keys(cfg), name
            assert all(0 <= loss < 10 for loss in losses.values()), (name, losses)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [ONE_ENGINE], indirect=True)
def test_every_config_takes_two_steps(engine, resnet50):
    steps = distinct(shipped(engine), resnet50)
    assert len(steps) > 20
    require_two_steps(engine, steps.values())


@pytest.mark.slow
@pytest.mark.parametrize("engine", [ONE_ENGINE], indirect=True)
def test_every_rung_takes_two_steps(engine, tmp_path, resnet50):
    """Those whose step is that of a config have taken it there."""
    of_configs = distinct(shipped(engine), resnet50)
    steps = distinct(rungs(engine, tmp_path), resnet50)
    assert {name.partition(":")[0] for name, _ in steps.values()} >= {"study.yaml", "masks.yaml"}
    require_two_steps(engine, [step for key, step in steps.items() if key not in of_configs])


@pytest.mark.slow
def test_the_main_config_takes_two_steps_from_imagenet_weights(engine, resnet101):
    cfg = load(engine, "sim_r101.yaml", *REDUCED, "MODEL.WEIGHTS", resnet101)
    assert cfg.MODEL.RESNETS.NORM == "FrozenBN"
    for losses in two_steps(engine, cfg):
        assert tuple(losses) == LOSS_KEYS
        assert all(0 <= loss < 10 for loss in losses.values()), losses


@pytest.mark.slow
@pytest.mark.parametrize("engine", [ONE_ENGINE], indirect=True)
def test_other_networks_of_101_layers_take_a_step(engine, resnet101, seresnet101):
    files = {"resnet101": resnet101, "seresnet101": seresnet101}
    for name in (name for name in WHOLE if name != "sim_r101.yaml"):
        cfg = load(engine, name, *REDUCED, "MODEL.WEIGHTS", files[WHOLE[name]])
        assert cfg.MODEL.RESNETS.NORM == "FrozenBN"
        (losses,) = first_steps(engine, cfg, 1)
        assert tuple(losses) == LOSS_KEYS
        assert all(0 <= loss < 10 for loss in losses.values()), losses
