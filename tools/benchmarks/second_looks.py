"""What does the second look owe its gain to?

`PYTHONPATH=tools python -m benchmarks.second_looks --output DIR` trains one detector with
several second looks beside it, which differ from the first in what they are named by, and judges
them all on the same detections. That is possible because a second look leaves every draw and loss
of its detector as it is, to the last bit: each of them learns as it would alone. The result is
`docs/results/second_look_parts.md`.

The same command goes on where it was ended. `DIR/seed_<n>/<kind>/` holds the detections of each
kind; `DIR/case_scores.csv` has the score of every case, in the form of a ladder's. With Detectron2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.second_look_kinds import DETECTOR, FIRST, KINDS, beside_one_detector
from simfrcnn import artifacts, config
from simfrcnn.artifacts import sidecar_of
from simfrcnn.cli.main import run_program
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.checkpoints import LAST, read_checkpoint
from simfrcnn.engines.common.descriptions import config_sha256
from simfrcnn.engines.common.inference import detect_records, load_detector
from simfrcnn.engines.common.validation import category_ids
from simfrcnn.engines.contract import load_engine
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation.comparison import Resampled, compare, mean_over_seeds, resample
from simfrcnn.evaluation.trainings import over_trainings, verdict_on, wider
from simfrcnn.files import writing
from simfrcnn.ladder.scores import case_scores
from simfrcnn.locks import working_in
from simfrcnn.registry import illegal
from simfrcnn.workflows.training import Processes, checked_training

CONFIG = "ladder/_second_look_parts.yaml"
MARGIN = 0.02
"""In AUC by case: the largest difference that does not matter."""
METRICS = ("case/auc", "image/auc", "finding/ap50")


def config_of(output: Path, seed: int, options: Sequence[str]) -> Any:
    """The config of a training, checked; phantoms that it names are made if they are missing.

    Raises:
        ConfigError: It is for a GPU.
        OutputError: The folder has a training of another config.
    """
    folder = output / f"seed_{seed}" / "training"
    words = [*options, "SEED", str(seed), "OUTPUT_DIR", str(folder), "DATASETS.VAL", "[]"]
    _, cfg = checked_training(CONFIG, (), words, "detectron2", Processes())
    if cfg.MODEL.DEVICE != "cpu":
        raise ConfigError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}; legal here is cpu")
    stored = folder / "config.yaml"
    if stored.exists() and (changed := config.changed_keys(stored, cfg, ignored=("OUTPUT_DIR",))):
        raise OutputError(
            f"{folder} holds a training with other settings ({'; '.join(changed)}); give another "
            "--output, or the options of that training"
        )
    return cfg


def train_and_test(cfg: Any, folder: Path, kinds: Sequence[str]) -> None:
    """Train a detector with all kinds beside it, and write what each finds in the test set."""
    engine = load_engine("detectron2")
    require_kinds(Path(cfg.OUTPUT_DIR, LAST), kinds)
    with working_in(folder), beside_one_detector(kinds) as built:
        engine.train(cfg, resume=True)
        model = load_detector(engine, cfg, Path(cfg.OUTPUT_DIR, LAST))
        built[-1].forget_found()  # of validation
        test = test_set_of(cfg)
        detect_records(cfg, model, engine.detect, test.records, title="test")
    categories = category_ids(config.data_settings(cfg).classes, test)
    for name, found in built[-1].found.items():
        path = detections_in(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_detections(path, found, categories=categories, provenance=facts_of(cfg))


def facts_of(cfg: Any) -> dict[str, str]:
    """What the detections of a training say of it: its config and its test set, by hash."""
    return {
        "config_sha256": config_sha256(cfg.dump()),
        "annotations_sha256": test_set_of(cfg).sha256,
    }


def require_kinds(checkpoint: Path, kinds: Sequence[str]) -> None:
    """Refuse to go on with a training that holds second looks of other kinds.

    Raises:
        OutputError: Says which they are.
    """
    if not checkpoint.exists():
        return
    before = "second_look.looks."
    names = [name for name in read_checkpoint(checkpoint)["model"] if name.startswith(before)]
    held = dict.fromkeys(name.removeprefix(before).partition(".")[0] for name in names)
    if set(held) != set(kinds):
        raise OutputError(
            f"{checkpoint} holds second looks of the kinds {', '.join(held)}; all kinds of a "
            "detector are trained together: give these by --kinds, or another --output"
        )


def test_set_of(cfg: Any) -> AnnotatedSet:
    """The images that are judged."""
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    return catalog.load(cfg.DATASETS.TEST[0], files)


def detections_in(folder: Path, kind: str) -> Path:
    """Where the detections of a kind are, or will be."""
    return folder / kind / "detections.json"


def is_done(output: Path, seed: int, kind: str) -> bool:
    """Whether the detections of a kind are whole; the sidecar is written last."""
    return sidecar_of(detections_in(output / f"seed_{seed}", kind)).exists()


def judged(output: Path, options: Sequence[str]) -> dict[str, dict[int, Resampled]]:
    """Each kind with each seed that is done, on the same resamplings of the test patients.

    Raises:
        OutputError: Detections are of another config or test set.
    """
    models: dict[str, dict[int, Resampled]] = {}
    names = (each.name.removeprefix("seed_") for each in output.glob("seed_*") if each.is_dir())
    for seed in sorted(int(name) for name in names if name.isdecimal()):
        cfg = config_of(output, seed, options)
        facts, test = facts_of(cfg), test_set_of(cfg)
        for kind in (*KINDS, DETECTOR):
            if not is_done(output, seed, kind):
                continue
            path = detections_in(output / f"seed_{seed}", kind)
            found = artifacts.read_detections(path)
            if any(found.provenance.get(key) != value for key, value in facts.items()):
                raise OutputError(
                    f"{path} is of another config or test set; give another --output, or the "
                    "options of that run"
                )
            rules = config.evaluation_settings(cfg)
            one = resample(test.records, found, rules, categories=test.categories)
            models.setdefault(kind, {})[seed] = one
    return models


def table(models: Mapping[str, Mapping[int, Resampled]], metric: str = METRICS[0]) -> list[str]:
    """Lines of Markdown: each kind, and its difference from its control, with wider intervals."""
    rows = [f"| {metric} | mean | each seed | less | difference | verdict |", "|---" * 6 + "|"]
    margin = MARGIN if metric == METRICS[0] else None
    for kind, own in models.items():
        figure = mean_over_seeds(list(own.values()))[metric]
        by_seed = [float(model.values[metric][0]) for model in own.values()]
        quoted = wider(figure, over_trainings(by_seed, figure, 0, 1))
        cells = [f"{quoted.value:.3f} ({quoted.low:.3f} to {quoted.high:.3f})"]
        cells.append(", ".join(f"{value:.3f}" for value in by_seed))
        below = KINDS[kind].below if kind in KINDS else FIRST
        both = [seed for seed in own if seed in models.get(below, {})]
        if kind != below and both:
            first = [models[below][seed] for seed in both]
            change = compare([own[seed] for seed in both], first).differences[metric]
            mean = wider(change.figure, over_trainings(change.by_seed, change.figure, -1, 1))
            cells.append(f"`{below}`")
            cells.append(f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})")
            cells.append(str(verdict_on(change.by_seed, change.figure, change.n_patients, margin)))
        rows.append(f"| `{kind}` | " + " | ".join(cells + [""] * (5 - len(cells))) + " |")
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the program."""
    parser.add_argument("--output", type=Path, required=True, help="gets a folder for each seed")
    parser.add_argument("--seeds", default="0,1,2", help="with commas (default: 0,1,2)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas (default: all)")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="as of train-net")


def run(args: argparse.Namespace) -> int:
    """Run what is missing, and print the tables of all that there is."""
    wanted, seeds = args.kinds.split(","), [int(seed) for seed in args.seeds.split(",")]
    for kind in wanted:
        if kind not in KINDS:
            raise illegal("--kinds", kind, " | ".join(KINDS), KINDS)
    kinds = [kind for kind in KINDS if kind in wanted]  # a training goes on in this order
    if FIRST not in kinds:
        raise ConfigError(f"--kinds lacks {FIRST}, with which the others are compared")
    for number, seed in enumerate([] if args.report_only else seeds, start=1):
        if not all(is_done(args.output, seed, kind) for kind in (*kinds, DETECTOR)):
            print(f"[{number}/{len(seeds)}] seed {seed}", file=sys.stderr, flush=True)
            cfg = config_of(args.output, seed, args.options)
            train_and_test(cfg, args.output / f"seed_{seed}", kinds)
    models = judged(args.output, args.options)
    if not models:
        raise OutputError(f"{args.output} holds no detections yet; leave out --report-only")
    with writing(args.output / "case_scores.csv") as part:
        part.write_bytes(case_scores(models))
    for metric in METRICS:
        print("\n".join(table(models, metric)), end="\n\n")
    return 0


if __name__ == "__main__":
    run_program(sys.modules[__name__])
