"""Configs: merging, types, did-you-mean, refused combinations, settings."""

import re

import pytest

from simfrcnn import config
from simfrcnn.errors import ConfigError
from simfrcnn.settings import EvaluationSettings


@pytest.fixture
def tree():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    return cfg


LEGAL = """
SEED: 0
MODEL: {DEVICE: cpu, RESNETS: {NORM: GN}, ROI_HEADS: {NUM_CLASSES: 1}}
DATALOADER: {FILTER_EMPTY_ANNOTATIONS: False, ASPECT_RATIO_GROUPING: False}
"""


@pytest.fixture
def legal(tmp_path):
    path = tmp_path / "legal.yaml"
    path.write_text(LEGAL)
    return path


def test_bases_come_first_and_relative_to_the_file(tree, tmp_path, legal):
    (tmp_path / "sub").mkdir()
    child = tmp_path / "sub" / "child.yaml"
    child.write_text("_BASE_: ../legal.yaml\nSOLVER: {BASE_LR: 1e-4, STEPS: [5, 7]}\nSEED: 3\n")
    cfg = config.load_config(tree, child)
    assert (cfg.SEED, cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == (3, 1e-4, (5, 7))
    assert cfg.MODEL.RESNETS.NORM == "GN"
    assert cfg.is_frozen()


def test_of_several_bases_the_later_wins(tree, tmp_path, legal):
    (tmp_path / "b.yaml").write_text("SEED: 9")
    child = tmp_path / "child.yaml"
    child.write_text("_BASE_: [legal.yaml, b.yaml]")
    assert config.load_config(tree, child).SEED == 9


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["INPUT.MAMMO.SIZE", "(1333,800)"], "SIZE", (1333, 800)),
        (["INPUT.MAMMO.SIZE", "[64, 96]"], "SIZE", (64, 96)),
        (["INPUT.MAMMO.KEEP_ASPECT", "False"], "KEEP_ASPECT", False),
        (["INPUT.MAMMO.VERTICAL_FLIP", "0"], "VERTICAL_FLIP", 0.0),
    ],
)
def test_overrides_take_the_type_of_the_default(tree, legal, words, key, value):
    got = config.load_config(tree, legal, words).INPUT.MAMMO[key]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("OUTPUT_DIR", "0123", "0123"),
        ("OUTPUT_DIR", "1:30", "1:30"),
        ("OUTPUT_DIR", "1e3", "1e3"),
        ("OUTPUT_DIR", "True", "True"),
        ("OUTPUT_DIR", "null", "null"),
        ("OUTPUT_DIR", "2026-11-28", "2026-11-28"),
        ("OUTPUT_DIR", "a #b", "a #b"),
        ("OUTPUT_DIR", "a: b", "a: b"),
        ("OUTPUT_DIR", "[run]", "[run]"),
        ("OUTPUT_DIR", "", ""),
        ("OUTPUT_DIR", "'0123'", "0123"),
        ("OUTPUT_DIR", '"it\\u00e9"', "ité"),
        ("OUTPUT_DIR", "it's", "it's"),
        ("DATASETS.TRAIN", "0123", ("0123",)),
        ("DATASETS.TRAIN", "1:30", ("1:30",)),
        ("DATASETS.TRAIN", "(0123,1:30)", ("0123", "1:30")),
        ("DATASETS.TRAIN", "[a/train, yes, 'no']", ("a/train", "yes", "no")),
        ("DATASETS.TRAIN", "(a/train,)", ("a/train",)),
        ("DATASETS.TEST", "()", ()),
        ("DATASETS.TEST", "", ()),
        ("DATASETS.FILES", "a=/data/x: y #z.json", ("a=/data/x: y #z.json",)),
        ("EVAL.SUBGROUPS", "age:50,70", ("age:50,70",)),
        ("MODEL.RPN.IN_FEATURES", "[p2, p3]", ["p2", "p3"]),
        ("SOLVER.STEPS", "(5,7)", (5, 7)),
        ("SOLVER.MAX_ITER", "0x10", 16),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
    ],
)
def test_a_word_for_a_text_stays_as_it_is(tree, legal, key, word, value):
    cfg = config.load_config(tree, legal, [key, word])
    *groups, leaf = key.split(".")
    node = cfg
    for group in groups:
        node = node[group]
    assert node[leaf] == value


@pytest.mark.parametrize(
    "overrides",
    [
        {"DATASETS.TEST": ("0123",), "SOLVER.MAX_ITER": 5, "INPUT.MAMMO.SIZE": [64, 48]},
        ["DATASETS.TEST", ("0123",), "SOLVER.MAX_ITER", 5, "INPUT.MAMMO.SIZE", "[64, 48]"],
    ],
)
def test_python_gives_values_as_they_are(tree, legal, overrides):
    cfg = config.load_config(tree, legal, overrides)
    assert cfg.DATASETS.TEST == ("0123",)
    assert (cfg.SOLVER.MAX_ITER, tuple(cfg.INPUT.MAMMO.SIZE)) == (5, (64, 48))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("SEED 1", "overrides is 'SEED 1'; legal are a mapping"),
        ([("SEED", 1)], r"overrides is \[\('SEED', 1\)\]; legal are a mapping"),
        ({"SEEDS": 1}, "unknown config key SEEDS in the overrides"),
        ({"SOLVER.MAX_ITER": "5"}, "SOLVER.MAX_ITER in the overrides is '5'"),  # no word
    ],
)
def test_other_overrides_are_refused(tree, legal, overrides, message):
    with pytest.raises(ConfigError, match=message):
        config.load_config(tree, legal, overrides)


def test_a_group_of_keys_can_be_set_at_once(tree, legal):
    cfg = config.load_config(tree, legal, ["MODEL.SIMFRCNN.SIMILARITY", "{LOSS: none, WEIGHT: 2}"])
    assert cfg.MODEL.SIMFRCNN.SIMILARITY.LOSS == "none"
    assert cfg.MODEL.SIMFRCNN.SIMILARITY.WEIGHT == 2.0


def test_a_single_name_becomes_a_list_of_one(tree, legal):
    cfg = config.load_config(tree, legal, ["DATASETS.TRAIN", "mias/train"])
    assert cfg.DATASETS.TRAIN == ("mias/train",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL.RPN.NMS_TRESH", "1"], r"MODEL\.RPN\.NMS_TRESH.*Did you mean MODEL\.RPN\.NMS_THR"),
        (["SOLVER.BASELR", "1"], r"Did you mean SOLVER\.BASE_LR"),
        (["NOWHERE.AT.ALL", "1"], r"unknown config key NOWHERE in the overrides"),
        (["SOLVER.BASE_LR", "fast"], r"SOLVER\.BASE_LR in the overrides is 'fast'.*float"),
        (["SOLVER.MAX_ITER", "1.5"], r"SOLVER\.MAX_ITER.*int"),
        (["DATALOADER.ASPECT_RATIO_GROUPING", "1"], r"bool"),
        (["MODEL", "x"], r"group of keys"),
        (["SEED"], r"KEY VALUE pairs"),
        (["SEED", "1", "--resume"], r"^--resume stands behind KEY VALUE words.*options come first"),
        (["SEED", "1", "--engine", "detectron2"], r"^--engine stands behind KEY VALUE words"),
        (["SEED", "-1"], r"SEED is -1; legal is an integer >= 0"),
        (["SOLVER.IMS_PER_BATCH", "3"], r"IMS_PER_BATCH is 3.*even"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "2"], r"NUM_CLASSES is 2.*DATASETS\.CLASSES"),
        (["MODEL.SIMFRCNN.RPN_NORMALS", "mask"], r"top_likelihood \| ordinary \| none"),
        (["MODEL.SIMFRCNN.SIMILARITY.MARGIN", "1"], r"MARGIN is 1\.0; legal is a cosine"),
        (["MODEL.SIMFRCNN.SIMILARITY.LOSS", "triplet"], r"cosine \| contrastive \| none"),
        (["MODEL.SIMFRCNN.SIMILARITY.DISTANCE_MARGIN", "2.5"], r"above 0, and at most 2"),
        (["MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS", "True"], r"LOSS is cosine, which has no"),
        (
            [
                *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "contrastive"),
                *("MODEL.SIMFRCNN.SIMILARITY.MARGIN", "0.2"),
            ],
            r"MARGIN is 0\.2 but .*LOSS is contrastive.*leave it at 0\.0",
        ),
        (
            [
                *("MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS", "True"),
                *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "contrastive", "SOLVER.IMS_PER_BATCH", "2"),
            ],
            r"IMS_PER_BATCH is 2.*legal is 4 or more",
        ),
        (
            [
                *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none", "MODEL.SECOND_LOOK.ENABLED", "True"),
                *("MODEL.SECOND_LOOK.SIMILARITY", "cosine"),
                *("MODEL.SIMFRCNN.SIMILARITY.DISTANCE_MARGIN", "0.5"),
            ],
            r"DISTANCE_MARGIN is 0\.5 but MODEL\.SECOND_LOOK\.SIMILARITY is cosine, which has no",
        ),
        (
            [
                *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "contrastive", "SOLVER.IMS_PER_BATCH", "4"),
                *("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SIMILARITY", "cosine"),
                *("MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS", "True"),
            ],
            r"SAME_KIND_PAIRS is True but MODEL\.SECOND_LOOK\.SIMILARITY is cosine, which would",
        ),
        (
            ["MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.BATCH_SIZE", "3"],
            r"SECOND_LOOK\.BATCH_SIZE is 3; legal is an even number",
        ),
        (["MODEL.SIMFRCNN.TOP_LIKELIHOOD.TOP_K", "0"], r"TOP_K is 0; legal is at least 1"),
        (["DATASETS.REPLAY.FRACTION", "1"], r"FRACTION is 1\.0; legal is a number in \[0, 1\)"),
        (["DATASETS.REPLAY.HARD_SHARE", "0"], r"HARD_SHARE is 0\.0; .* number in \(0, 1\]"),
        (["DATASETS.REPLAY.PERIOD", "0"], r"PERIOD is 0; legal is at least 1"),
        (
            ["DATASETS.REPLAY.FRACTION", ".5", "DATASETS.BATCHES", "positives"],
            r"FRACTION is 0\.5 but DATASETS\.BATCHES is positives.*to pairs",
        ),
        (["INPUT.MAMMO.SIZE", "512"], r"INPUT\.MAMMO\.SIZE"),
        (["INPUT.MAMMO.SIZE", "[a, b]"], r"SIZE is \('a', 'b'\); legal is a list of whole numbers"),
        (["INPUT.MAMMO.WINDOW", "[a, b]"], r"WINDOW is \('a', 'b'\); legal is a list of finite"),
        (["INPUT.MAMMO.WINDOW", "(40, null)"], r"WINDOW is \(40, None\); legal is a list of fin"),
        (["INPUT.MAMMO.WINDOW", "[.nan, 200]"], r"WINDOW is \(nan, 200\); legal is a list of fin"),
        (["DATASETS.CLASSES", "[[a]]"], r"CLASSES is \(\['a'\],\); legal is a list of texts"),
        (["DATASETS.TRAIN", "[[a]]"], r"DATASETS\.TRAIN is \(\['a'\],\); legal is a list of texts"),
        (["EVAL.SUBGROUPS", "[{a: 1}]"], r"SUBGROUPS is .*; legal is a list of texts"),
        (["MODEL.RPN.IOU_THRESHOLDS", "[a]"], r"RPN\.IOU_THRESHOLDS is \['a'\]; legal is numbers"),
        (["MODEL.RPN.IOU_THRESHOLDS", "[.7, .3]"], r"\[0\.7, 0\.3\]; legal is .* rising order"),
        (["MODEL.ROI_HEADS.IOU_THRESHOLDS", "[]"], r"ROI_HEADS\.IOU_THRESHOLDS is \[\]; legal is"),
        (
            ["MODEL.ANCHOR_GENERATOR.SIZES", "[[a]]"],
            r"SIZES is \[\['a'\]\]; .* above 0",
        ),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[[]]"], r"SIZES is \[\[\]\]; .* finite numbers above 0"),
        (
            ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0]]"],
            r"ASPECT_RATIOS is \[\[0\]\]; .* above 0",
        ),
        (
            ["MODEL.PIXEL_MEAN", "[.nan, 1, 1]"],
            r"PIXEL_MEAN is \[nan, 1, 1\]; .* three finite",
        ),
        (["MODEL.PIXEL_STD", "[.inf, 1, 1]"], r"PIXEL_STD is \[inf, 1, 1\]; legal is three finite"),
        (["SOLVER.STEPS", "[true]"], r"STEPS is \(True,\); legal is a list of step numbers"),
        (["INPUT.MAMMO.HORIZONTAL_FLIP", "2"], r"probability"),
        (["EVAL.SCORE_THRESHOLD", "1.5"], r"EVAL\.SCORE_THRESHOLD is 1\.5; legal is a score in"),
        (["EVAL.POOLING", "noisy-or"], r"POOLING is 'noisy-or'.*Did you mean noisy_or\?"),
        (["EVAL.OPERATING_SENSITIVITY", "0"], r"OPERATING_SENSITIVITY is 0\.0; .* in \(0, 1\]"),
        (["EVAL.OPERATING_SPECIFICITY", "90"], r"OPERATING_SPECIFICITY is 90\.0"),
        (["EVAL.PREVALENCE", "1"], r"PREVALENCE is 1\.0; .* in \(0, 1\), or 0.0 for none"),
        (["EVAL.PREVALENCE", "-0.1"], r"EVAL\.PREVALENCE is -0\.1"),
        (["EVAL.PREVALENCE", ".nan"], r"EVAL\.PREVALENCE"),
        (["EVAL.BOXES_OUTSIDE", "drop"], r"BOXES_OUTSIDE is 'drop'; legal is refuse \| clip"),
        (
            ["EVAL.IGNORED_CLASSES", "[benign,malignant]"],
            r"IGNORED_CLASSES is \('benign', 'malignant'\); .*TARGET_CLASSES \('malignant',\)",
        ),
        (["DATASETS.TARGET_CLASSES", "[benign]"], r"one or more of DATASETS\.CLASSES"),
        (["DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True"], r"drop the normal images.*False"),
        (["DATALOADER.ASPECT_RATIO_GROUPING", "True"], r"break the pairs.*False"),
        (["MODEL.RESNETS.NORM", "FrozenBN"], r"FrozenBN but MODEL\.WEIGHTS is empty.*GN"),
        (["MODEL.BACKBONE.NAME", "build_timm_backbone"], r"MODEL\.TIMM\.NAME is ''.*seresnet101"),
        (["MODEL.TIMM.NAME", "seresnet101"], r"legal is '' unless MODEL\.BACKBONE\.NAME is b"),
        (["MODEL.SIMFRCNN.DEFORM_STAGES", "[layer4]"], r"DEFORM_STAGES.*res2, res3, res4, res5"),
        (["MODEL.SIMFRCNN.DEFORM_STAGES", "[res4,res4]"], r"DEFORM_STAGES.*each once"),
        (["MODEL.SIMFRCNN.DEFORM_STAGES", "[res5,res4]"], r"DEFORM_STAGES.*in this order"),
        (["MODEL.SIMFRCNN.DEFORM_STAGES", "[res2]"], r"some of res3, res4, res5,.*FREEZE_AT"),
        (
            ["MODEL.SIMFRCNN.DEFORM_STAGES", "[res5]", "MODEL.SIMFRCNN.RES5_TRAINED_CONVS", "2"],
            r"some of res3, res4,.*RES5_TRAINED_CONVS",
        ),
        (["MODEL.SIMFRCNN.RES5_TRAINED_CONVS", "-2"], r"RES5_TRAINED_CONVS is -2; legal is -1"),
        (
            [
                *("MODEL.SIMFRCNN.RES5_TRAINED_CONVS", "2", "MODEL.BACKBONE.FREEZE_AT", "5"),
                *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
            ],
            r"RES5_TRAINED_CONVS is 2.*FREEZE_AT 5 freezes all of res5",
        ),
    ],
)
def test_what_is_refused_and_how(tree, legal, words, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config.load_config(tree, legal, words)
    assert caught.value.exit_code == 2


def test_an_unknown_key_names_the_base_file_that_holds_it(tree, tmp_path, legal):
    (tmp_path / "broken.yaml").write_text("SOLVER: {BASE_LRR: 1}")
    child = tmp_path / "child.yaml"
    child.write_text("_BASE_: [legal.yaml, broken.yaml]")
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LRR in .*broken\.yaml.*BASE_LR\?"):
        config.load_config(tree, child)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("[1, 2]", "must hold a mapping"),
        ("a: [", "not plain YAML"),
        ("_BASE_: self.yaml", "leads back to this file"),
        ("_BASE_: nothing.yaml", "nothing.yaml does not exist"),
    ],
)
def test_files_that_are_refused(tree, tmp_path, content, message):
    path = tmp_path / "self.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        config.load_config(tree, path)


@pytest.mark.parametrize("key", ["DATASETS.TRAIN", "EVAL.SUBGROUPS", "MODEL.FPN.IN_FEATURES"])
def test_a_number_among_names_of_a_file_is_refused(tree, tmp_path, legal, key):
    *groups, leaf = key.split(".")
    head = "".join(f"{'  ' * depth}{group}:\n" for depth, group in enumerate(groups))
    path = tmp_path / "numbers.yaml"
    path.write_text(f"_BASE_: {legal}\n{head}{'  ' * len(groups)}{leaf}: [a, 1]\n")
    with pytest.raises(ConfigError, match=rf"{key} is [(\[]'a', 1[)\]]; legal is a list of texts"):
        config.load_config(tree, path)


def test_a_missing_file_is_named(tree, tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist"):
        config.load_config(tree, tmp_path / "absent.yaml")


def test_settings_hold_what_the_keys_say(tree, legal):
    words = [
        "MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT",
        ".9",
        "MODEL.SIMFRCNN.TOP_LIKELIHOOD.TOP_K",
        "7",
        "MODEL.SIMFRCNN.SIMILARITY.WEIGHT",
        ".1",
        "MODEL.SIMFRCNN.SIMILARITY.PARTNERS",
        "all",
        "MODEL.SIMFRCNN.SIMILARITY.MARGIN",
        ".2",
        "MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING",
        "random",
        "DATASETS.UNBOXED_VIEWS",
        "normal",
        "EVAL.POOLING",
        "noisy_or",
        "EVAL.UNKNOWN_IMAGES",
        "normal",
    ]
    cfg = config.load_config(tree, legal, words)
    method = config.method_settings(cfg)
    assert (method.top_likelihood.weight, method.top_likelihood.top_k) == (0.9, 7)
    assert (method.similarity.weight, method.similarity.margin) == (0.1, 0.2)
    assert (method.similarity.partners, method.roi_normal_sampling) == ("all", "random")
    assert config.data_settings(cfg).unboxed_views == "normal"
    evaluation = config.evaluation_settings(cfg)
    assert (evaluation.pooling, evaluation.unknown_images) == ("noisy_or", "normal")
    assert evaluation.target_classes == ("malignant",)


def test_evaluation_settings_are_those_of_the_class_by_default_and_all_can_be_set(tree, legal):
    assert config.evaluation_settings(config.load_config(tree.clone(), legal)) == (
        EvaluationSettings()
    )
    words = {
        "IGNORED_CLASSES": "benign",
        "BOXES_OUTSIDE": "clip",
        "PREVALENCE": "0.008",
        "OPERATING_SENSITIVITY": "0.95",
        "OPERATING_SPECIFICITY": "1",
        "SUBGROUPS": "[density, 'age:50,70']",
    }
    flat = [word for key, value in words.items() for word in (f"EVAL.{key}", value)]
    assert config.evaluation_settings(config.load_config(tree, legal, flat)) == EvaluationSettings(
        ignored_classes=("benign",),
        boxes_outside="clip",
        prevalence=0.008,
        operating_sensitivity=0.95,
        operating_specificity=1.0,
        subgroups=("density", "age:50,70"),
    )


def test_settings_of_the_contrastive_loss(tree, legal):
    node = "MODEL.SIMFRCNN.SIMILARITY"
    words = [f"{node}.LOSS", "contrastive", f"{node}.DISTANCE_MARGIN", "30"]
    words += [f"{node}.NORMALISE_VECTORS", "False", f"{node}.SAME_KIND_PAIRS", "True"]
    similarity = config.method_settings(
        config.load_config(tree, legal, [*words, "SOLVER.IMS_PER_BATCH", "4"])
    ).similarity
    assert (similarity.kind, similarity.distance_margin) == ("contrastive", 30.0)
    assert (similarity.normalise_vectors, similarity.same_kind_pairs) == (False, True)


def test_either_similarity_loss_may_have_its_margin(tree, legal):
    """The detector's is cosine here, and the second look's contrastive: both margins are read."""
    node = "MODEL.SIMFRCNN.SIMILARITY"
    words = [f"{node}.MARGIN", "0.2", f"{node}.DISTANCE_MARGIN", "0.5"]
    words += ["MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SIMILARITY", "contrastive"]
    similarity = config.method_settings(config.load_config(tree, legal, words)).similarity
    assert (similarity.margin, similarity.distance_margin) == (0.2, 0.5)


def test_a_dumped_config_reads_back_the_same(tree, tmp_path, legal):
    cfg = config.load_config(tree, legal, ["INPUT.MAMMO.SIZE", "(64,96)"])
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    again = config.portable_defaults()
    config.add_simfrcnn_config(again)
    assert config.load_config(again, path) == cfg


def test_no_figure_of_boxes_chooses_the_checkpoint_of_a_classifier(tree):
    name = config.find_config("smoke/classifier_r18")
    with pytest.raises(ConfigError, match=r"TEST.BEST_BY is .*breast/auc \| image/auc \| last"):
        config.load_config(tree, name, ["TEST.BEST_BY", "finding/ap50"])


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("smoke/classifier_r18", [], "none with a whole-image classifier: only boxes are joined"),
        ("smoke/mask_r18", [], "none with MODEL.MASK_ON: only boxes are joined"),
        ("smoke/sim_r18_fpn", ["MODEL.RPN.NMS_THRESH", "0.6"], None),
    ],
)
def test_only_boxes_are_found_in_flips(tree, name, words, told):
    words = [*words, "TEST.FLIPS", "horizontal"]
    if told is None:
        assert config.load_config(tree, config.find_config(name), words).TEST.FLIPS == "horizontal"
        return
    with pytest.raises(ConfigError, match=f"TEST.FLIPS is 'horizontal'; legal is {told}"):
        config.load_config(tree, config.find_config(name), words)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.BASE_LR", "0"),
        ("SOLVER.BASE_LR", ".nan"),
        ("SOLVER.BASE_LR", ".inf"),
        ("SOLVER.LOW_STAGES_LR_FACTOR", "0"),
        ("SOLVER.LOW_STAGES_LR_FACTOR", "-.1"),
        ("SOLVER.MAX_ITER", "0"),
        ("SOLVER.STEPS", "[soon]"),
        ("SOLVER.WARMUP_ITERS", "-3"),
        ("TEST.EVAL_PERIOD", "-2"),
        ("TEST.BEST_BY", "case/brier"),
        ("TEST.FLIPS", "vertical"),
        ("DATALOADER.NUM_WORKERS", "-1"),
        ("MODEL.PIXEL_MEAN", "[1.0]"),
        ("MODEL.PIXEL_STD", "[1, 0, 1]"),
        ("MODEL.RPN.NMS_THRESH", "-1"),
        ("MODEL.RPN.POST_NMS_TOPK_TRAIN", "0"),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "0"),
        ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "0"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[12]"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[]"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_key(tree, legal, key, value):
    with pytest.raises(ConfigError, match=re.escape(f"{key} is")):
        config.load_config(tree, legal, [key, value])
