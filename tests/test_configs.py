"""Every shipped config loads on both engines, and says what its name says."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
import torch

from simfrcnn.config import images_per_item, items_per_step
from simfrcnn.config.stages import read_stages
from simfrcnn.engines.common.checkpoints import Identity, read_checkpoint, save_checkpoint
from simfrcnn.ladder.plan import plan_runs, read_ladder
from simfrcnn.workflows.weak import require_two_stages
from support.config_steps import JOBS, LADDERS, SHIPPED, SMOKE, changes, keys_of, load
from support.examples import CONFIGS, ENGINE_PARAMETERS, engine_named

OF_THE_THESIS = [name for name in SHIPPED if Path(name).stem.find("_r101") >= 0]
# Of the mass films of CBIS-DDSM: RPN loss and ROI batch of normal films, loss on ROI vectors.
FILM = {
    "faster": ("ordinary", "random", "none"),
    "faster_top": ("ordinary", "top", "none"),
    "sim": ("top_likelihood", "top", "cosine"),
    "second_look": ("ordinary", "top", "none"),
    "oracle": ("ordinary", "random", "none"),
}


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request):
    return engine_named(request.param)


def test_there_are_configs():
    assert {"sim_r101.yaml", "tl_r101.yaml", "faster_r101.yaml"} <= set(OF_THE_THESIS)
    assert "faster_positives_r101.yaml" in OF_THE_THESIS
    assert {"weak_stage1_r101.yaml", "weak_stage2_r101.yaml", "oracle_r101.yaml"} <= set(SHIPPED)
    assert {"weak_r101.yaml", "smoke/weak.yaml"} <= set(JOBS)
    assert len(SMOKE) >= 2
    assert {f"cbis/{name}.yaml" for name in FILM} <= set(SHIPPED)
    assert {"ladder/study.yaml", "ladder/smoke.yaml", "ladder/second_look.yaml"} <= set(LADDERS)
    assert {"mask_r101.yaml", "smoke/mask_r18.yaml"} <= set(SHIPPED)
    assert "ladder/masks.yaml" in LADDERS


@pytest.mark.parametrize("name", SHIPPED)
def test_every_config_loads_and_runs_into_a_folder_of_its_own(engine, name):
    cfg = load(engine, name)
    assert cfg.DATASETS.TRAIN
    assert Path(cfg.OUTPUT_DIR).parts[0] == "output"
    assert Path(cfg.OUTPUT_DIR).name == Path(name).stem


@pytest.mark.parametrize("name", JOBS)
def test_every_job_has_two_stages_that_fit_each_other(engine, name):
    job = read_stages(CONFIGS / name)
    assert job.folder.parts[0] == "output"
    first, second = (job.config_of(stage, engine.default_cfg()) for stage in ("STAGE1", "STAGE2"))
    require_two_stages(first, second, job.path)
    assert [Path(cfg.OUTPUT_DIR) for cfg in (first, second)] == [
        job.folder / "stage1",
        job.folder / "stage2",
    ]
    assert first.PSEUDO.OF == "labels" or first.DATASETS.BATCHES == "positives"
    assert second.DATASETS.TARGET_CLASSES == ("malignant",)


def test_stages_of_weak_faster_rcnn_are_those_of_the_thesis(engine):
    first, second = load(engine, "weak_stage1_r101.yaml"), load(engine, "weak_stage2_r101.yaml")
    assert (first.SOLVER.MAX_ITER, second.SOLVER.MAX_ITER) == (140_000, 260_000)
    assert (first.SOLVER.STEPS, first.SOLVER.IMS_PER_BATCH) == ((60_000,), 2)
    assert (first.PSEUDO.SCORE_THRESHOLD, first.PSEUDO.NMS_THRESHOLD) == (0.8, 0.3)
    assert second.DATASETS.CLASSES == ("malignant", "suspected")
    assert (second.EVAL.SCORE_THRESHOLD, second.MODEL.ROI_HEADS.NMS_THRESH_TEST) == (0.7, 0.4)
    rpn = second.MODEL.RPN
    assert (rpn.PRE_NMS_TOPK_TEST, rpn.POST_NMS_TOPK_TEST, rpn.NMS_THRESH) == (1000, 100, 0.8)
    for cfg in (first, second):
        assert cfg.SOLVER.LOW_STAGES_LR_FACTOR == 0.1
        assert cfg.MODEL.SIMFRCNN.RES5_TRAINED_CONVS == 2
        assert cfg.MODEL.SIMFRCNN.RPN_NORMALS == "ordinary"
        assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.001


@pytest.mark.parametrize("name", LADDERS)
def test_every_rung_of_a_ladder_is_another_training(engine, name, tmp_path):
    ladder = read_ladder(CONFIGS / name)
    runs = plan_runs(ladder, engine, tmp_path)
    assert len(runs) == len(ladder.rungs) * len(ladder.seeds)
    trained = [run for run in runs if run.rung.detector_of is None]
    different = {repr(cfg) for run in trained for cfg in run.configs}
    assert len(different) == sum(len(run.configs) for run in trained)


def test_the_start_of_the_ladder_of_patches_fits_the_rungs_that_take_it(engine, tmp_path):
    start = load(engine, "ladder/_study_patches.yaml")
    file = tmp_path / "model_last.pth"
    save_checkpoint(file, engine.build_model(start), Identity.of(engine.NAME, start))
    ladder = read_ladder(CONFIGS / "ladder" / "second_look_parts.yaml")
    runs = plan_runs(ladder, engine, tmp_path)
    taking = {run.rung.name: run.cfg for run in runs if run.cfg.MODEL.WEIGHTS}
    assert set(taking) == {"patch_init", "classifier_patches"}
    for cfg in taking.values():
        assert f"{start.OUTPUT_DIR}/model_last.pth" == cfg.MODEL.WEIGHTS
        for key in ("DEPTH", "NORM", "STRIDE_IN_1X1", "RES2_OUT_CHANNELS"):
            assert cfg.MODEL.RESNETS[key] == start.MODEL.RESNETS[key]
        assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == (
            start.MODEL.PIXEL_MEAN,
            start.MODEL.PIXEL_STD,
        )
    module = importlib.import_module(f"simfrcnn.engines.{engine.NAME}.weights")
    begun = {name: engine.build_model(cfg) for name, cfg in taking.items()}
    for model in begun.values():
        module.load_initial_weights(model, str(file))
    given, taken = read_checkpoint(file)["model"], begun["classifier_patches"].state_dict()
    assert given.keys() == taken.keys()
    assert all(torch.equal(given[name], taken[name]) for name in given)


def test_rungs_of_few_boxes_draw_equal_boxed_images_and_differ_as_they_are_named(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "few_boxes.yaml")
    assert ladder.comparisons[0] == ("few_labels_10", "few_10")
    assert (ladder.baseline, ladder.seeds) == ("few_10", (0, 1, 2))
    runs = {run.rung.name: run for run in plan_runs(ladder, engine, tmp_path) if not run.seed}
    for name, run in runs.items():
        for cfg in run.configs:
            assert items_per_step(cfg) == 2, name
            has_labels = "labels" in name or "bags" in name or name.startswith("label_")
            assert int(has_labels) == cfg.DATASETS.LABELS_PER_ITEM, name
            assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.SIMFRCNN.LABELS.PERIOD) == (2000, 67)
            assert cfg.MODEL.SIMFRCNN.RPN_NORMALS == "ordinary"
        assert str(run.rung.weakening.n_patients) == name.rpartition("_")[2]
    controls = [
        run.rung for name, run in runs.items() if not name.startswith(("few", "labels_teacher"))
    ]
    assert {rung.name: rung.weakening.labels for rung in controls} == {
        "false_bags_10": "false",
        "label_permuted_10": "shuffled",
        "noisy_bags_50": "breast",
    }
    for name, run in runs.items():
        node = run.cfg.MODEL.SIMFRCNN.LABELS.TEACHER
        assert node.ENABLED is name.startswith("labels_teacher")
        assert int("unlabelled" in name) == node.UNLABELLED_PER_ITEM
    one, other = (runs[f"labels_teacher{kind}_10"].cfg.clone() for kind in ("", "_unlabelled"))
    assert images_per_item(other) == 4
    for cfg in (one, other):  # they differ in nothing else
        cfg.defrost()
        cfg.MODEL.SIMFRCNN.LABELS.TEACHER.UNLABELLED_PER_ITEM = cfg.SOLVER.IMS_PER_BATCH = 0
        cfg.DATASETS.FILES, cfg.OUTPUT_DIR = (), ""
    assert one == other
    stages = [run for run in runs.values() if run.rung.kind == "weak"]
    assert len(stages) == 6
    for run in stages:
        first, second = run.configs
        require_two_stages(first, second, run.rung.config)
        assert (first.PSEUDO.OF, first.PSEUDO.FRACTION) == ("labels", 0.5)
        weakened = str(tmp_path / run.rung.name / "weakened" / "seed_0")
        assert all(weakened in entry for entry in first.DATASETS.FILES)


def test_the_study_names_every_rung_and_the_comparisons_that_were_planned(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "study.yaml")
    assert [rung.name for rung in ladder.rungs] == [
        *("faster_positives", "faster", "faster_top", "faster_top_replay", "tl", "tl_top"),
        *(
            "sim_random_rois",
            "sim",
            "sim_rpn_ordinary",
            "sim_replay",
            "sim_hardest",
            "sim_lambda4_1",
            "sim_contrastive",
            "sim_same_kind",
        ),
        *("weak", "weak_sim", "oracle", "permuted"),
    ]
    assert ladder.baseline == "faster"
    assert ladder.comparisons[0] == ("sim", "faster")
    runs = {run.rung.name: run.cfg for run in plan_runs(ladder, engine, tmp_path) if not run.seed}
    method = {name: cfg.MODEL.SIMFRCNN for name, cfg in runs.items()}
    chosen = {
        name: (m.RPN_NORMALS, m.ROI_NORMAL_SAMPLING, m.SIMILARITY.LOSS)
        for name, m in method.items()
    }
    assert chosen == {
        "faster_positives": ("ordinary", "random", "none"),
        "faster": ("ordinary", "random", "none"),
        "faster_top": ("ordinary", "top", "none"),
        "faster_top_replay": ("ordinary", "top", "none"),
        "tl": ("top_likelihood", "random", "none"),
        "tl_top": ("top_likelihood", "top", "none"),
        "sim_random_rois": ("top_likelihood", "random", "cosine"),
        "sim": ("top_likelihood", "top", "cosine"),
        "sim_replay": ("top_likelihood", "top", "cosine"),
        "sim_hardest": ("top_likelihood", "top", "cosine"),
        "sim_lambda4_1": ("top_likelihood", "top", "cosine"),
        "sim_rpn_ordinary": ("ordinary", "top", "cosine"),
        "sim_contrastive": ("top_likelihood", "top", "contrastive"),
        "sim_same_kind": ("top_likelihood", "top", "contrastive"),
        "weak": ("ordinary", "random", "none"),
        "weak_sim": ("ordinary", "random", "cosine"),
        "oracle": ("ordinary", "random", "none"),
        "permuted": ("top_likelihood", "top", "cosine"),
    }
    assert runs["faster_positives"].DATASETS.BATCHES == "positives"
    assert method["sim_hardest"].SIMILARITY.PARTNERS == "hardest"
    assert (method["sim"].SIMILARITY.WEIGHT, method["sim_lambda4_1"].SIMILARITY.WEIGHT) == (0.1, 1)
    same_kind = {name for name, m in method.items() if m.SIMILARITY.SAME_KIND_PAIRS}
    assert same_kind == {"sim_same_kind"}
    replayed = {name: cfg.DATASETS.REPLAY.FRACTION for name, cfg in runs.items()}
    assert {name: f for name, f in replayed.items() if f} == {
        "faster_top_replay": 0.5,
        "sim_replay": 0.5,
    }
    below = {rung.name: rung.below for rung in ladder.rungs}
    assert (below["sim_replay"], below["faster_top_replay"]) == ("sim", "faster_top")
    assert below["tl"] == "faster"
    assert runs["oracle"].DATASETS.TRAIN == ("phantom_study/train_oracle",)
    assert {cfg.SOLVER.MAX_ITER for cfg in runs.values()} == {2000}


def test_configs_for_film_share_all_but_the_method(engine):
    configs = {name: load(engine, f"cbis/{name}.yaml") for name in FILM}
    for name, cfg in configs.items():
        method = cfg.MODEL.SIMFRCNN
        chosen = (method.RPN_NORMALS, method.ROI_NORMAL_SAMPLING, method.SIMILARITY.LOSS)
        assert chosen == FILM[name], name
        # What decides what a film is to the network, and for how long it is trained.
        backbone = (cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME, cfg.MODEL.RESNETS.NORM)
        assert backbone == ("build_timm_fpn_backbone", "tf_efficientnet_lite0", "FrozenBN")
        assert tuple(cfg.MODEL.PIXEL_MEAN) == (127.0,) * 3
        assert tuple(cfg.MODEL.PIXEL_STD) == (128.0,) * 3
        assert tuple(cfg.INPUT.MAMMO.SIZE) == (512, 320)
        solver = cfg.SOLVER
        assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS) == (4, 1200, (1000,))
        assert cfg.TEST.EVAL_PERIOD == 400  # the best of these checkpoints on VAL is kept
        sets = (cfg.DATASETS.TRAIN, cfg.DATASETS.VAL, cfg.DATASETS.TEST)
        assert sets == tuple((f"cbis_ddsm_mass/{part}",) for part in ("train", "val", "test"))
    looking = {name for name, cfg in configs.items() if cfg.MODEL.SECOND_LOOK.ENABLED}
    assert looking == {"second_look"}
    two_classes = {name for name, cfg in configs.items() if len(cfg.DATASETS.CLASSES) > 1}
    assert two_classes == {"oracle"}
    look = configs["second_look"].MODEL.SECOND_LOOK
    assert (look.SOURCE, look.SIZE, look.BACKBONE) == ("native", 128, "tf_efficientnet_lite0")
    assert look.BACKBONE_WEIGHTS == configs["second_look"].MODEL.WEIGHTS


def test_the_ladder_on_film_trains_the_configs_of_film(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "cbis.yaml")
    assert (ladder.baseline, ladder.equivalence_margin) == ("faster", 0.05)
    assert ladder.comparisons[0] == ("second_look", "faster_top_longer")
    one_seed = dataclasses.replace(ladder, seeds=(0,))
    runs = {run.rung.name: run.cfg for run in plan_runs(one_seed, engine, tmp_path)}
    judged_after_the_last_step = {
        "DATASETS.VAL": (),
        "DATASETS.TEST": ("cbis_ddsm_mass/val",),
        "TEST.EVAL_PERIOD": 0,
        "SOLVER.AMP.AUTO_ON_CPU": True,
    }
    further = {
        "oracle": {"DATASETS.TRAIN": ("cbis_ddsm_mass/train_all_boxes",)},
        "faster_top_longer": {"SOLVER.MAX_ITER": 1560, "SOLVER.STEPS": (1300,)},
    }
    kinds = (*FILM, "classifier", "faster_top_longer")
    for name in kinds:
        own = keys_of(load(engine, f"cbis/{name.removesuffix('_longer')}.yaml"))
        if name != "faster_top":  # held by second_look
            expected = judged_after_the_last_step | further.get(name, {})
            assert changes(own, keys_of(runs[name])) == expected, name
    (faster_top,) = (rung for rung in ladder.rungs if rung.name == "faster_top")
    assert faster_top.detector_of == "second_look"
    look = keys_of(runs["second_look"])
    two_stages = changes(keys_of(runs["classifier"]), keys_of(runs["classifier_two_stages"]))
    assert all(key.startswith("MODEL.SECOND_LOOK.") for key in two_stages)
    assert two_stages == {key: look[key] for key in two_stages}
    pool, head = "MODEL.CLASSIFIER.POOL", "MODEL.CLASSIFIER.HEAD"
    levels = {"MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"]}
    assert {
        name.removeprefix("classifier_"): changes(keys_of(runs["classifier"]), keys_of(runs[name]))
        for name in runs
        if name.startswith("classifier_") and name != "classifier_two_stages"
    } == {
        "avg": {pool: "avg"},
        "max": {pool: "max"},
        "lse": {pool: "lse"},
        "fpn": {head: "fpn", **levels},
        "avg_fpn": {pool: "avg", head: "fpn", **levels},
        "avg_psp": {pool: "avg", head: "psp"},
        "avg_multi_scale": {pool: "avg", head: "multi_scale"},
    }


@pytest.mark.parametrize("name", LADDERS)
def test_no_ladder_looks_at_the_published_test_part(engine, name, tmp_path):
    for run in plan_runs(read_ladder(CONFIGS / name), engine, tmp_path):
        for cfg in run.configs:
            used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
            assert "cbis_ddsm_mass/test" not in used


def test_backbones_of_a_ladder_differ_in_what_they_are_named_by(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "classifiers.yaml")
    assert (ladder.baseline, ladder.comparisons[0]) == ("r18", ("r50", "r18"))
    one_seed = dataclasses.replace(ladder, seeds=(0,))
    runs = {run.rung.name: keys_of(run.cfg) for run in plan_runs(one_seed, engine, tmp_path)}
    start = keys_of(load(engine, "ladder/_study_patches.yaml"))
    assert changes(start, runs["r18"]) == {
        "DATASETS.VAL": (),
        "DATASETS.TEST": ("phantom_study_patches/test",),
        "SOLVER.IMS_PER_BATCH": 32,
    }
    timm = {"MODEL.BACKBONE.NAME": "build_timm_backbone"}
    assert {name: changes(runs["r18"], keys) for name, keys in runs.items() if name != "r18"} == {
        "r50": {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 256},
        "densenet121": timm | {"MODEL.TIMM.NAME": "densenet121"},
        "inception_v3": timm
        | {
            "MODEL.TIMM.NAME": "inception_v3",
            "MODEL.RESNETS.NORM": "BN",
            "INPUT.MAMMO.SIZE": (96, 96),
        },
        "se_r18": timm | {"MODEL.TIMM.NAME": "seresnet18"},
    }


def test_rungs_of_the_second_look_differ_from_it_in_what_they_are_named_by(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "second_look.yaml")
    assert (ladder.baseline, ladder.equivalence_margin) == ("faster_top", 0.02)
    assert ladder.comparisons[0] == ("second_look", "faster_top")
    assert len(ladder.seeds) == 5
    one_seed = dataclasses.replace(ladder, seeds=(0,))
    runs = {run.rung.name: run.cfg for run in plan_runs(one_seed, engine, tmp_path)}
    looks = {name for name, cfg in runs.items() if cfg.MODEL.SECOND_LOOK.ENABLED}
    assert looks == {"second_look", "faster_top"}
    second_look = keys_of(runs["second_look"])
    longer, larger = keys_of(runs["faster_top_longer"]), keys_of(runs["faster_top_512"])
    # faster_top is its detector; what is compared with both has no second look.
    (faster_top,) = (rung for rung in ladder.rungs if rung.name == "faster_top")
    assert (faster_top.detector_of, faster_top.below) == ("second_look", None)
    without = {"MODEL.SECOND_LOOK.ENABLED": False}
    assert changes(second_look, longer) == {
        **without,
        "SOLVER.MAX_ITER": 2400,
        "SOLVER.STEPS": (2040,),
    }
    assert changes(second_look, larger) == {
        **without,
        "INPUT.MAMMO.SIZE": (512, 512),
        "MODEL.ANCHOR_GENERATOR.SIZES": [[24], [48], [96], [192], [384]],
        "SOLVER.MAX_ITER": 600,
        "SOLVER.STEPS": (510,),
    }


def test_rungs_of_the_parts_of_the_second_look_differ_in_what_they_are_named_by(engine, tmp_path):
    ladder = read_ladder(CONFIGS / "ladder" / "second_look_parts.yaml")
    assert (ladder.baseline, ladder.equivalence_margin) == ("second_look", 0.02)
    long = read_ladder(CONFIGS / "ladder" / "second_look.yaml")
    (long_run,) = (
        run
        for run in plan_runs(dataclasses.replace(long, seeds=(0,)), engine, tmp_path)
        if run.rung.name == "second_look"
    )
    one_seed = dataclasses.replace(ladder, seeds=(0,))
    runs = {run.rung.name: keys_of(run.cfg) for run in plan_runs(one_seed, engine, tmp_path)}
    assert changes(keys_of(long_run.cfg), runs["second_look"]) == {
        "SOLVER.MAX_ITER": 500,
        "SOLVER.STEPS": (420,),
        "SOLVER.CHECKPOINT_PERIOD": 100,
    }
    changed = {
        name.removeprefix("second_look_"): changes(runs["second_look"], keys)
        for name, keys in runs.items()
        if name.startswith("second_look_")
    }
    assert changed == {
        "tl": {"MODEL.SIMFRCNN.RPN_NORMALS": "top_likelihood"},
        "replay": {"DATASETS.REPLAY.FRACTION": 0.5},
        "oracle": {
            "DATASETS.CLASSES": ("malignant", "benign"),
            "DATASETS.TRAIN": ("phantom_study/train_oracle",),
            "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        },
    }
    without = {"MODEL.SECOND_LOOK.ENABLED": False}
    longer = {"SOLVER.MAX_ITER": 1000, "SOLVER.STEPS": (850,)}
    assert changes(runs["second_look"], runs["faster_top_longer"]) == without | longer
    patches = {"MODEL.WEIGHTS": "output/ladder/patches_start/model_last.pth"}
    assert changes(runs["second_look"], runs["patch_init"]) == without | patches
    assert changes(runs["classifier"], runs["classifier_patches"]) == patches
    classifier, detector = runs["classifier"], runs["faster_top_longer"]
    alike = ("INPUT.MAMMO.SIZE", "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "MODEL.PIXEL_MEAN")
    assert {key: classifier[key] for key in alike} == {key: detector[key] for key in alike}
    schedule = ("SOLVER.MAX_ITER", "SOLVER.STEPS", "SOLVER.WARMUP_ITERS")
    assert {key: classifier[key] for key in schedule} == {
        key: runs["second_look"][key] for key in schedule
    }
    assert {
        name: changes(runs["second_look_tl"], runs[name])
        for name in ("tl_top_graded", "tl_top_heavier")
    } == {
        "tl_top_graded": without | {"MODEL.SIMFRCNN.BENIGN_WEIGHT": 2.0},
        "tl_top_heavier": without | {"MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT": 1.21},
    }
    (permuted,) = (rung for rung in ladder.rungs if rung.permute_labels)
    assert permuted.options == next(r.options for r in ladder.rungs if r.name == "second_look")
