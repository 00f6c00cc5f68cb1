"""The recipe: schedules by hand, seeding, pairs over ranks, batches of positives first."""

import copy
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simfrcnn import config
from simfrcnn.config import load_config
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import Finding, ImageRecord, Pathology, Supervision
from simfrcnn.training import recipe

WORDS = (
    "SEED 5 MODEL.DEVICE cpu MODEL.RESNETS.NORM GN MODEL.ROI_HEADS.NUM_CLASSES 1 "
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS False DATALOADER.ASPECT_RATIO_GROUPING False "
    "DATALOADER.NUM_WORKERS 0 INPUT.MAMMO.SIZE (64,48) SOLVER.IMS_PER_BATCH 4 SOLVER.MAX_ITER 6 "
    "DATASETS.TRAIN t/train"
)


def make_config(words="", files=()):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.DATASETS.FILES = tuple(files)
    return load_config(cfg, None, f"{WORDS} {words}".split())


def write_set(folder: Path, n_positives: int, n_normals: int, n_unlabelled: int = 0) -> str:
    """A data set of noise images; returns its NAME=PATH."""
    import cv2

    rng = np.random.default_rng(0)
    kinds = ["positive"] * n_positives + ["normal"] * n_normals + ["unlabelled"] * n_unlabelled
    supervision = {
        "positive": Supervision.BOXES,
        "normal": Supervision.NORMAL,
        "unlabelled": Supervision.UNLABELLED,
    }
    records = []
    for number, kind in enumerate(kinds, start=1):
        name = f"{kind}_{number}.png"
        pixels = rng.integers(60, 250, (64, 48), dtype=np.uint8)
        cv2.imwrite(str(folder / name), pixels)
        findings = (Finding((10, 10, 30, 30), "malignant", number),) if kind == "positive" else ()
        records.append(
            ImageRecord(
                image_id=number,
                file_name=name,
                path=folder / name,
                height=64,
                width=48,
                patient_id=f"p{number}",
                exam_id=f"e{number}",
                supervision=supervision[kind],
                findings=findings,
            )
        )
    path = folder / "train.json"
    write_coco(path, records, {1: "malignant"}, {"description": "test"})
    return f"t/train={path}"


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), n_positives=3, n_normals=5, n_unlabelled=2)


def names(batch):
    return [sample.record.file_name for sample in batch]


def test_learning_rate_by_hand():
    factor = recipe.LearningRateFactor((4, 6), 0.1, warmup_steps=2, warmup_factor=0.5)
    expected = [0.5, 0.75, 1, 1, 0.1, 0.1, 0.01]
    assert [factor(step) for step in range(7)] == pytest.approx(expected)


def test_the_schedule_is_the_thesis_s():
    cfg = make_config("SOLVER.STEPS (9000,18000,27000,36000) SOLVER.WARMUP_ITERS 0")
    factor = recipe.LearningRateFactor.of(cfg)
    at = {step: factor(step) for step in (0, 8999, 9000, 18000, 44999)}
    assert at == pytest.approx({0: 1, 8999: 1, 9000: 0.1, 18000: 0.01, 44999: 1e-4})


def test_a_scheduler_survives_save_and_load(tmp_path):
    cfg = make_config("SOLVER.STEPS (3,) SOLVER.WARMUP_ITERS 2 SOLVER.BASE_LR 1")
    rates = []
    optimizer = recipe.build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = recipe.build_lr_scheduler(cfg, optimizer)
    for step in range(5):
        if step == 2:
            torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "x.pth")
            optimizer = recipe.build_optimizer(cfg, nn.Linear(1, 1))
            scheduler = recipe.build_lr_scheduler(cfg, optimizer)
            states = torch.load(tmp_path / "x.pth", weights_only=True)
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.001, 0.5005, 1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        ("", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
        (
            "SOLVER.OPTIMIZER sgd SOLVER.MOMENTUM .7",
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.01),
        ),
    ],
)
def test_a_fused_optimiser_makes_the_steps_of_a_plain_one(words, plain):
    cfg = make_config(f"SOLVER.BASE_LR .1 SOLVER.WEIGHT_DECAY .01 {words}")
    ours, theirs = (nn.Linear(7, 5).double() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    steppers = recipe.build_optimizer(cfg, ours), plain(theirs.parameters())
    assert steppers[0].defaults["fused"]
    for step in range(6):
        if step == 3:  # what a run of an earlier version left is gone on with
            earlier = copy.deepcopy(steppers[1].state_dict())
            earlier["param_groups"] = steppers[0].state_dict()["param_groups"]
            steppers[0].load_state_dict(earlier)
        x = torch.rand(4, 7, dtype=torch.float64)
        for model, optimizer in zip((ours, theirs), steppers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(one, two, rtol=1e-9)


def test_optimisers_take_the_keys_and_leave_frozen_parameters_out():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    model[0].requires_grad_(False)
    adam = recipe.build_optimizer(make_config("SOLVER.BASE_LR 0.25 SOLVER.WEIGHT_DECAY 0"), model)
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.defaults["lr"], adam.defaults["weight_decay"]) == (0.25, 0)
    assert sum(len(group["params"]) for group in adam.param_groups) == 2
    sgd = recipe.build_optimizer(make_config("SOLVER.OPTIMIZER sgd SOLVER.MOMENTUM .7"), model)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.7
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"every parameter is frozen.*FREEZE_AT"):
        recipe.build_optimizer(make_config(), model)


class Staged(nn.Module):
    """A model with stages, as both engines have it: one number each, and a head."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({n: nn.Linear(1, 1, bias=False) for n in self.names})

    names = ("stem", "res2", "res3", "res4", "res5", "head")

    @property
    def stages(self):
        return {name: self.layers[name] for name in self.names[:-1]}


def names_by_rate(optimizer, model):
    named = {id(parameter): name.split(".")[1] for name, parameter in model.named_parameters()}
    return [
        (group["lr"], [named[id(parameter)] for parameter in group["params"]])
        for group in optimizer.param_groups
    ]


def test_low_stages_learn_at_their_own_rate():
    model = Staged()
    model.layers["stem"].requires_grad_(False)
    cfg = make_config("SOLVER.BASE_LR 0.5 SOLVER.LOW_STAGES_LR_FACTOR 0.1")
    optimizer = recipe.build_optimizer(cfg, model)
    expected = [(0.5, ["res4", "res5", "head"]), (0.05, ["res2", "res3"])]
    assert names_by_rate(optimizer, model) == expected
    shell = DistributedDataParallel.__new__(DistributedDataParallel)  # no processes here
    nn.Module.__init__(shell)
    shell.module = model
    assert names_by_rate(recipe.build_optimizer(cfg, shell), model) == expected
    plain = recipe.build_optimizer(make_config("SOLVER.BASE_LR 0.5"), model)
    assert names_by_rate(plain, model) == [(0.5, ["res2", "res3", "res4", "res5", "head"])]


def test_the_schedule_scales_both_rates():
    cfg = make_config("SOLVER.BASE_LR 1 SOLVER.LOW_STAGES_LR_FACTOR 0.1 SOLVER.STEPS (1,)")
    optimizer = recipe.build_optimizer(cfg, Staged())
    scheduler = recipe.build_lr_scheduler(cfg, optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    rates = []
    for _ in range(1001):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx([0.001, 0.0001])
    assert rates[1000] == pytest.approx([0.1, 0.01])


def test_a_rate_of_low_stages_that_nothing_would_take_is_refused():
    cfg = make_config("SOLVER.LOW_STAGES_LR_FACTOR 0.1")
    with pytest.raises(ConfigError, match=r"LOW_STAGES_LR_FACTOR is 0\.1.*FREEZE_AT"):
        recipe.build_optimizer(cfg, nn.Linear(1, 1))
    model = Staged()
    for name in recipe.LOW_STAGES:
        model.stages[name].requires_grad_(False)
    with pytest.raises(ConfigError, match=r"LOW_STAGES_LR_FACTOR is 0\.1.*FREEZE_AT"):
        recipe.build_optimizer(cfg, model)


def test_a_step_s_draws_depend_on_seed_step_and_rank_alone():
    def draws(*arguments):
        recipe.seed_step(*arguments)
        return (torch.rand(1).item(), random.random(), float(np.random.rand()))  # noqa: NPY002

    first = draws(1, 2, 0)
    torch.rand(100)
    assert draws(1, 2, 0) == first
    others = [draws(1, 3, 0), draws(2, 2, 0), draws(1, 2, 1)]
    assert len({first, *others}) == 4


def test_a_batch_lists_positives_first_and_partners_in_order(entry):
    cfg = make_config(files=[entry])
    items = recipe.training_items(cfg)
    batch = next(iter(recipe.training_loader(cfg)))
    pairs = [items.records_of(number) for number in (0, 1)]
    assert names(batch) == [pairs[item][place].file_name for place in (0, 1) for item in (0, 1)]
    assert [sample.targets.is_normal for sample in batch] == [False, False, True, True]


def test_images_of_unknown_truth_never_train(entry):
    cfg = make_config("SOLVER.MAX_ITER 30", files=[entry])
    seen = {name for batch in recipe.training_loader(cfg) for name in names(batch)}
    assert not any(name.startswith("unlabelled") for name in seen)
    assert len(seen) == 8


def test_positives_only_takes_twice_the_positive_images(entry):
    cfg = make_config("DATASETS.BATCHES positives", files=[entry])
    batches = list(recipe.training_loader(cfg))
    assert all(name.startswith("positive") for batch in batches for name in names(batch))
    assert {len(batch) for batch in batches} == {4}


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_resumed_loader_gives_the_same_pixels_as_an_uninterrupted_one(entry, n_workers):
    whole = list(recipe.training_loader(make_config(files=[entry])))
    cfg = make_config(f"DATALOADER.NUM_WORKERS {n_workers}", files=[entry])
    rest = list(recipe.training_loader(cfg, start_step=4))
    assert len(rest) == 2
    for one, other in zip(whole[4:], rest, strict=True):
        assert names(one) == names(other)
        assert all(torch.equal(a.image, b.image) for a, b in zip(one, other, strict=True))
        assert all(a.frame == b.frame for a, b in zip(one, other, strict=True))


def test_ranks_together_draw_what_one_process_draws(entry):
    cfg = make_config(files=[entry])
    single = list(recipe.training_loader(cfg))
    ranks = [list(recipe.training_loader(cfg, rank=rank, world_size=2)) for rank in range(2)]
    for step, batch in enumerate(single):
        assert len(ranks[0][step]) == 2
        together = sorted(names(ranks[0][step]) + names(ranks[1][step]))
        assert together == sorted(names(batch))
        for rank in range(2):
            positive, normal = names(ranks[rank][step])
            assert (positive, normal) == (names(batch)[rank], names(batch)[2 + rank])


def test_same_kind_pairs_need_two_pairs_on_each_process(entry):
    words = "MODEL.SIMFRCNN.SIMILARITY.LOSS contrastive MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS "
    cfg = make_config(words + "True", files=[entry])
    assert cfg.SOLVER.IMS_PER_BATCH == 4
    recipe.training_loader(cfg)
    with pytest.raises(ConfigError, match="legal is 8 or more"):
        recipe.training_loader(cfg, world_size=2)


def test_augmentation_changes_over_passes_but_not_over_runs(entry):
    cfg = make_config("SOLVER.MAX_ITER 40", files=[entry])
    flips = {
        (sample.record.file_name, sample.frame.scale_x < 0, sample.frame.scale_y < 0)
        for batch in recipe.training_loader(cfg)
        for sample in batch
    }
    per_image = {name: sum(one == name for one, _, _ in flips) for name, _, _ in flips}
    assert max(per_image.values()) == 4


@pytest.mark.parametrize(
    ("counts", "words", "message"),
    [
        ((2, 0), "", "normal"),
        ((0, 2), "", "positive"),
        ((0, 2), "DATASETS.BATCHES positives", "positive"),
    ],
)
def test_an_empty_list_names_the_data_set(tmp_path, counts, words, message):
    cfg = make_config(words, files=[write_set(tmp_path, *counts)])
    with pytest.raises(DataError, match=rf"(?s)t/train.*{message}|{message}.*t/train"):
        recipe.training_items(cfg)


def test_classes_that_no_file_has_are_refused(entry):
    words = "DATASETS.CLASSES [malignant,suspected] MODEL.ROI_HEADS.NUM_CLASSES 2"
    with pytest.raises(ConfigError, match=r"\['suspected'\].*\['malignant'\] only"):
        recipe.training_items(make_config(words, files=[entry]))


def test_no_training_set_is_refused():
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        recipe.training_sets(make_config("DATASETS.TRAIN []"))


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.method_settings(make_config()).rpn_normals = "none"


def test_the_two_images_of_a_pair_are_flipped_independently(entry):
    items = recipe.training_items(make_config(files=[entry]))
    flips = [
        tuple((sample.frame.scale_x < 0, sample.frame.scale_y < 0) for sample in items[number])
        for number in range(40)
    ]
    assert len(set(flips)) > 4  # equal flips for both would leave four combinations
    assert flips == [
        tuple((sample.frame.scale_x < 0, sample.frame.scale_y < 0) for sample in items[number])
        for number in range(40)
    ]


REPLAY = "DATASETS.REPLAY.FRACTION .9 DATASETS.REPLAY.PERIOD 4 SOLVER.IMS_PER_BATCH 2 "


def replayed_names(cfg, context=None):
    """The images of each step, with scores that the last digit of the normal one's name decides."""
    items = recipe.training_items(cfg)
    loader = recipe.training_loader(cfg, items=items)
    if context is not None:
        loader.multiprocessing_context = context
    seen = []
    for step, batch in enumerate(loader):
        seen.append(names(batch))
        digits = torch.tensor([int(name[-5]) / 10 for name in names(batch)])
        items.replay.after_step(step, batch, (digits + step / 7) % 1, lambda part: part)
    return seen


def test_loading_processes_see_the_rankings_of_a_replay(entry):
    words = REPLAY + "SOLVER.MAX_ITER 24"
    alone = replayed_names(make_config(words, files=[entry]))
    plain = [names(b) for b in recipe.training_loader(make_config(words, files=[entry]))]
    assert alone[:8] == plain[:8]
    assert sum(one != other for one, other in zip(alone[8:], plain[8:], strict=True)) > 6
    assert [one[0] for one in alone] == [one[0] for one in plain]  # the positives stay
    two = replayed_names(make_config(words + " DATALOADER.NUM_WORKERS 2", files=[entry]))
    assert two == alone


@pytest.mark.slow
def test_loading_processes_that_are_spawned_see_them_too(entry):
    words = REPLAY + "SOLVER.MAX_ITER 13"
    alone = replayed_names(make_config(words, files=[entry]))
    cfg = make_config(words + " DATALOADER.NUM_WORKERS 1", files=[entry])
    assert replayed_names(cfg, "spawn") == alone


def test_a_replayed_item_is_augmented_as_any_other(entry):
    cfg = make_config(REPLAY, files=[entry])
    items, plain = recipe.training_items(cfg), recipe.training_items(make_config(files=[entry]))
    items.replay._published[:] = torch.tensor([1, 3, 0, 0, 0, 0])
    number = next(n for n in range(20) if items.replay.replacement(n) == 3)
    assert items.records_of(number)[1].file_name == "normal_7.png"
    flipped = [
        [(sample.frame.scale_x < 0, sample.frame.scale_y < 0) for sample in each[number]]
        for each in (items, items, plain)
    ]
    assert flipped[0] == flipped[1] == flipped[2]


def test_replay_is_off_unless_asked_for(entry):
    assert recipe.training_items(make_config(files=[entry])).replay is None


def test_loading_processes_that_work_too_far_ahead_are_refused(entry):
    with pytest.raises(ConfigError, match=r"PERIOD is 4.*NUM_WORKERS 3.*legal is 6 or more"):
        recipe.training_items(make_config(REPLAY + "DATALOADER.NUM_WORKERS 3", files=[entry]))


def test_an_optimiser_or_schedule_that_nobody_knows_is_an_error_with_the_nearest():
    """From Python no config is checked: Adam must not stand in for what was asked for."""
    cfg = make_config().clone()
    cfg.defrost()
    cfg.SOLVER.OPTIMIZER = "adamm"
    with pytest.raises(ConfigError, match=r"OPTIMIZER is 'adamm'; legal is adam \| sgd.*adam\?"):
        recipe.build_optimizer(cfg, nn.Linear(1, 1))
    cfg.SOLVER.OPTIMIZER = "sgd"
    optimizer = recipe.build_optimizer(cfg, nn.Linear(1, 1))
    assert isinstance(optimizer, torch.optim.SGD)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"  # of Detectron2, which a plain script has
    with pytest.raises(ConfigError, match=r"LR_SCHEDULER_NAME is 'WarmupCosineLR'; legal is Warm"):
        recipe.build_lr_scheduler(cfg, optimizer)


def with_benign(tmp_path: Path, pathology: Pathology | None) -> str:
    """The set with one normal image of that pathology."""
    entry = write_set(tmp_path, 2, 3)
    path = Path(entry.partition("=")[2])
    annotated = read_coco(path)
    records = [
        dataclasses.replace(record, pathology=pathology)
        if record.file_name.startswith("normal_3")
        else record
        for record in annotated.records
    ]
    write_coco(path, records, annotated.categories, {})
    return entry


def test_benign_normal_images_get_their_weight_and_others_one(tmp_path):
    entry = with_benign(tmp_path, Pathology.BENIGN)
    items = recipe.training_items(make_config("MODEL.SIMFRCNN.BENIGN_WEIGHT 2.5", [entry]))
    seen = {sample.record.file_name: sample.targets for n in range(6) for sample in items[n]}
    assert {name: targets.normal_weight for name, targets in seen.items()} == {
        name: 2.5 if name.startswith("normal_3") else 1.0 for name in seen
    }
    assert len(seen) == 5
    off = recipe.training_items(make_config("", [entry]))
    assert all(sample.targets.normal_weight == 1 for n in range(6) for sample in off[n])


def test_a_weight_that_would_change_nothing_is_refused(tmp_path):
    entry = with_benign(tmp_path, None)
    with pytest.raises(ConfigError, match="no normal image of the training sets is known to show"):
        recipe.training_items(make_config("MODEL.SIMFRCNN.BENIGN_WEIGHT 2", [entry]))
    words = "MODEL.SIMFRCNN.BENIGN_WEIGHT 2 MODEL.SIMFRCNN.RPN_NORMALS ordinary"
    with pytest.raises(ConfigError, match="RPN_NORMALS is not top_likelihood and"):
        recipe.training_items(make_config(words, [entry]))
    with pytest.raises(ConfigError, match=r"BENIGN_WEIGHT is 0.*legal is above 0"):
        recipe.training_items(make_config("MODEL.SIMFRCNN.BENIGN_WEIGHT 0", [entry]))


def test_a_weight_of_benign_images_that_train_by_their_boxes_is_refused(tmp_path):
    path = Path(with_benign(tmp_path, Pathology.BENIGN).partition("=")[2])
    boxed = [
        dataclasses.replace(
            record,
            findings=(Finding((10, 10, 30, 30), "benign", 99),),
            supervision=Supervision.BOXES,
        )
        if record.file_name.startswith("normal_3")
        else record
        for record in read_coco(path).records
    ]
    write_coco(path, boxed, {1: "malignant", 2: "benign"}, {})
    words = "MODEL.SIMFRCNN.BENIGN_WEIGHT 2"
    recipe.training_items(make_config(words, [f"t/train={path}"]))
    both = f"{words} DATASETS.CLASSES [malignant,benign] MODEL.ROI_HEADS.NUM_CLASSES 2"
    with pytest.raises(ConfigError, match=r"is 2\.0, but no normal .*boxed images train by"):
        recipe.training_items(make_config(both, [f"t/train={path}"]))


@pytest.mark.parametrize(("of_val", "is_alike"), [("q{}", False), (" P{}", True)])
def test_patients_of_two_parts_in_other_spellings_are_a_warning(tmp_path, caplog, of_val, is_alike):
    files = []
    for part, patient in (("train", "p{}"), ("val", of_val)):
        (tmp_path / part).mkdir()
        path = Path(write_set(tmp_path / part, 1, 2).partition("=")[2])
        document = json.loads(path.read_text())
        for image in document["images"]:
            image["patient_id"] = patient.format(image["id"])
        path.write_text(json.dumps(document))
        files.append(f"t/{part}={path}")
    recipe.check_patients_stay_apart(make_config("DATASETS.VAL t/val", files))
    said = "DATASETS.TRAIN t/train and DATASETS.VAL t/val have 3 patients whose identifiers differ"
    assert [said in message for message in caplog.messages] == [True] * is_alike
