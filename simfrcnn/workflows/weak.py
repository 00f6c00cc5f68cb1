"""How is weakFaster R-CNN trained as one job? Stage 1, pseudo-labels, stage 2, test.

What ``weak``, the ladder and Python call. A step that is done is not done again, see
:mod:`simfrcnn.workflows.steps`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from simfrcnn.config import (
    data_settings,
    find_config,
    keys_without_effect,
    pseudo_settings,
    set_keys,
)
from simfrcnn.config.stages import read_stages
from simfrcnn.data import catalog
from simfrcnn.described import JobStep
from simfrcnn.engines.common import checkpoints
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.run_folder import own_commit
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError
from simfrcnn.files import sha256_of, write_text
from simfrcnn.locks import working_in
from simfrcnn.pseudo.labels import require_labels_of_images
from simfrcnn.pseudo.select import SUSPECTED
from simfrcnn.settings import PseudoSettings
from simfrcnn.training import recipe
from simfrcnn.version import __version__
from simfrcnn.workflows import pseudo_label
from simfrcnn.workflows.phantoms import make_missing_phantoms
from simfrcnn.workflows.steps import Step, StepRunner, hash_of
from simfrcnn.workflows.training import weights_of
from simfrcnn.zoo import find_model, shipped_models

STEPS = ("stage1", "pseudo", "stage2", "test")
KIND = "simfrcnn weak job"

# What a training, a detection or a test does not depend on, beside settings without effect on it: a
# change of it outdates nothing.
_PLACES = ("OUTPUT_DIR", "DATASETS.FILES")  # the contents count, by hash
_OF_TESTS = ("DATASETS.TEST",)
_OF_TRAINING = (
    *("SOLVER.", "TEST.EVAL_PERIOD", "TEST.BEST_BY"),
    *("DATASETS.TRAIN", "DATASETS.VAL", "MODEL.WEIGHTS"),
)
_OF_DETECTION = ("TEST.FLIPS",)  # a training validates without
_STATED = ("PSEUDO.",)  # stands in the inputs of its step by itself
_LOADING = ("DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_PERIOD")


@catalog.reading_once()
def run_job(
    config_file: str | Path,
    engine: Engine,
    *,
    overrides: Sequence[str] = (),
    datasets: Sequence[str] = (),
    overwrite: bool = False,
    force: bool = False,
    command: Sequence[str] = (),
) -> Path:
    """Run the four steps of a job file and return the job's folder.

    Args:
        config_file: The job file, or the name of one of simfrcnn.
        engine: Trains and detects.
        overrides: KEY VALUE words for both stages, STAGE1.KEY VALUE for one, OUTPUT_DIR for the
            job.
        datasets: ``NAME=PATH`` entries.
        overwrite: Make steps again whose inputs or results have changed.
        force: Label although normal images carry boxes.
        command: The words of a command line, for the manifest.

    Returns:
        The folder of the job; ``summary.md`` in it says what was done and how long it took.

    Raises:
        SimFrcnnError: Config, data, training, or a step that was made from something else.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a weak job runs in one process; on several, run its steps by train-net and "
            "pseudo-label"
        )
    config_file = find_config(config_file, what="job file")
    weak = _prepare(engine, config_file, overrides, datasets, force, command)
    with working_in(weak.folder):
        _run_steps(weak, config_file, overwrite=overwrite)
    return weak.folder


def _run_steps(weak: _Weak, config_file: Path, *, overwrite: bool) -> None:
    job = StepRunner(
        weak.folder,
        STEPS,
        {
            "kind": KIND,
            "simfrcnn": __version__,
            "commit": own_commit(),
            "engine": weak.engine.NAME,
            "seed": weak.first.SEED,
            "config_file": str(config_file),
            "command": list(weak.command),
        },
        overwrite=overwrite,
    )
    job.run(weak.training("stage1", weak.first))
    job.run(weak.labelling())
    recipe.check_patients_stay_apart(weak.second)
    job.run(weak.training("stage2", weak.second))
    job.run(weak.test())
    write_text(weak.folder / "summary.md", _summary(job, weak))


@dataclass(frozen=True)
class _Weak:
    """The job's engine and the resolved configs of its stages."""

    engine: Engine
    folder: Path
    first: Any
    second: Any
    settings: PseudoSettings
    force: bool
    command: Sequence[str]
    file_name: str

    def training(self, name: str, cfg: Any) -> Step:
        """A stage: its checkpoints are what later steps rely on."""
        folder = Path(cfg.OUTPUT_DIR)

        def work(may_resume: bool) -> list[Path]:
            with working_in(folder):
                last = self.engine.train(cfg, resume=may_resume, command=self.command)
            return sorted({last, weights_of(folder)})

        weights = cfg.MODEL.WEIGHTS
        is_there = bool(weights) and (Path(weights).is_file() or weights in shipped_models())
        return Step(
            name,
            folder,
            {
                "engine": self.engine.NAME,
                "config": self._keys("training", cfg, _PLACES, _OF_TESTS, _OF_DETECTION, _LOADING),
                "data": _hashes(cfg, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL)),
                # Whoever needs a missing file names it, by its key.
                "weights": hash_of(find_model(weights)) if is_there else None,
            },
            work,
            foreign=weights_of(folder),
        )

    def labelling(self) -> Step:
        """Detections of stage 1 on the normal training images, and the files made from them."""
        weights = weights_of(Path(self.first.OUTPUT_DIR))
        data = data_settings(self.first)
        outputs = pseudo_files(self.first.DATASETS.TRAIN, self.folder)

        def work(may_resume: bool) -> list[Path]:
            sets = recipe.load_sets(self.first, self.first.DATASETS.TRAIN)
            for annotated, output in zip(sets, outputs.values(), strict=True):
                chosen = pseudo_label.require(
                    annotated, data.classes, data.target_classes, self.settings, force=self.force
                )
                beside = pseudo_label.detections_beside(output)
                detections = pseudo_label.detect(
                    self.engine, self.first, weights, annotated, chosen, beside
                )
                pseudo_label.label(
                    annotated,
                    detections,
                    output,
                    classes=data.classes,
                    target_classes=data.target_classes,
                    settings=self.settings,
                    force=self.force,
                )
            return list(outputs.values())

        return Step(
            "pseudo",
            self.folder / "pseudo",
            {
                "engine": self.engine.NAME,
                "config": self._keys(
                    "pseudo", self.first, _PLACES, _OF_TESTS, _OF_TRAINING, _LOADING, _STATED
                ),
                "pseudo": _stated(self.settings),
                "data": _hashes(self.first, self.first.DATASETS.TRAIN),
                "checkpoint": checkpoints.weights_sha256(weights),
            },
            work,
        )

    def test(self) -> Step:
        """Stage 2 on the validation and test sets, exactly as ``train-net`` tests."""
        run_folder = Path(self.second.OUTPUT_DIR)
        weights = weights_of(run_folder)
        folder = run_folder / "inference"

        def work(may_resume: bool) -> list[Path]:
            # Late: matplotlib and the metrics are of no use to the trainings.
            from simfrcnn.evaluation.operating import FILE_NAME
            from simfrcnn.workflows.testing import judge_model

            if not judge_model(self.engine, self.second, weights, trained_by=self.file_name):
                return []
            data = self.second.DATASETS
            places = [folder / name for name in (*data.VAL, *data.TEST)]
            made = [p / file for p in places for file in ("detections.json", "report.json")]
            return [*made, *([run_folder / FILE_NAME] if data.VAL else [])]

        return Step(
            "test",
            folder,
            {
                "engine": self.engine.NAME,
                "config": self._keys("test", self.second, _PLACES, _OF_TRAINING, _LOADING),
                "data": _hashes(
                    self.second, (*self.second.DATASETS.VAL, *self.second.DATASETS.TEST)
                ),
                "checkpoint": checkpoints.weights_sha256(weights),
            },
            work,
        )

    def _keys(self, step: JobStep, cfg: Any, *ignored: Sequence[str]) -> dict[str, Any]:
        """The keys that a config sets otherwise than the engine, as far as they matter to a step.

        Not all keys: a key that a later version adds, at its default, must outdate nothing.
        """
        prefixes = tuple(prefix for group in ignored for prefix in group)
        without_effect = keys_without_effect(step)
        return {
            key: value
            for key, value in set_keys(cfg, self.engine.default_cfg()).items()
            if not key.startswith(prefixes) and key not in without_effect
        }


def pseudo_name(name: str) -> str:
    """What a data set is called when it is pseudo-labelled."""
    return f"{name}_pseudo"


def pseudo_files(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """The pseudo-labelled file of each data set of stage 1, by its new name, in their order."""
    return {pseudo_name(name): folder / "pseudo" / f"{pseudo_name(name)}.json" for name in names}


def _prepare(
    engine: Engine,
    config_file: Path,
    overrides: Sequence[str],
    datasets: Sequence[str],
    force: bool,
    command: Sequence[str],
) -> _Weak:
    """Resolve and check everything that can be checked before the first step."""
    job = read_stages(config_file, overrides)

    def resolved(stage: str) -> Any:
        cfg = engine.default_cfg()
        cfg.DATASETS.FILES = tuple(datasets)
        cfg = job.config_of(stage, cfg)
        if datasets and tuple(cfg.DATASETS.FILES) != tuple(datasets):
            raise ConfigError("give data set files by --dataset or by DATASETS.FILES, not by both")
        check_device(cfg)
        return cfg

    first, second = resolved("STAGE1"), resolved("STAGE2")
    require_two_stages(first, second, config_file)
    own = pseudo_files(first.DATASETS.TRAIN, job.folder)
    second = second.clone()
    second.defrost()
    second.DATASETS.FILES = (
        *second.DATASETS.FILES,
        *(f"{name}={path}" for name, path in own.items()),
    )
    second.freeze()
    make_missing_phantoms(first)
    make_missing_phantoms(second)
    recipe.check_patients_stay_apart(first)
    settings = replace(
        pseudo_settings(first), include_unknown=second.DATASETS.UNBOXED_VIEWS == "normal"
    )
    return _Weak(
        engine, job.folder, first, second, settings, force, tuple(command), config_file.name
    )


def require_two_stages(first: Any, second: Any, config_file: Path) -> None:
    """Refuse two configs that are not the two stages of one method.

    Raises:
        ConfigError: Stage 2 is trained on other sets than the pseudo-labelled ones of stage 1, has
            other targets or other thresholds of pseudo-boxes, or lacks the class of these.
    """
    expected = [pseudo_name(name) for name in first.DATASETS.TRAIN]
    found = list(second.DATASETS.TRAIN)
    if not expected or found != expected:
        raise ConfigError(
            f"{config_file}: stage 2 trains on the data sets of stage 1 with pseudo-boxes: its "
            f"DATASETS.TRAIN must be {expected}, not {found} (change one stage by STAGE1.KEY or "
            "STAGE2.KEY)"
        )
    targets = tuple(first.DATASETS.TARGET_CLASSES)
    if tuple(second.DATASETS.TARGET_CLASSES) != targets or SUSPECTED in targets:
        raise ConfigError(
            f"{config_file}: DATASETS.TARGET_CLASSES is {list(targets)} in stage 1 and "
            f"{list(second.DATASETS.TARGET_CLASSES)} in stage 2; both must name the same classes, "
            f"and {SUSPECTED} is none of them"
        )
    if pseudo_settings(second) not in (pseudo_settings(first), PseudoSettings()):
        raise ConfigError(
            f"{config_file}: PSEUDO is {pseudo_settings(first)} in stage 1 and "
            f"{pseudo_settings(second)} in stage 2, which has no say in it: set it for both"
        )
    if pseudo_settings(first).of == "labels":
        for stage in (first, second):
            require_labels_of_images(str(config_file), data_settings(stage))
        if tuple(first.DATASETS.CLASSES) != tuple(second.DATASETS.CLASSES):
            raise ConfigError(
                f"{config_file}: PSEUDO.OF is labels, and DATASETS.CLASSES is "
                f"{list(first.DATASETS.CLASSES)} in stage 1 and {list(second.DATASETS.CLASSES)} in "
                "stage 2; both must be the same"
            )
    elif SUSPECTED not in second.DATASETS.CLASSES:
        raise ConfigError(
            f"{config_file}: stage 2 must know the class {SUSPECTED}: add it to its "
            f"DATASETS.CLASSES {list(second.DATASETS.CLASSES)}"
        )


def _stated(settings: PseudoSettings) -> dict[str, Any]:
    """The settings as inputs of a step; what a later version added counts where it is used."""
    stated = asdict(settings)
    if settings.of == "suspected":
        del stated["of"], stated["fraction"]
    return stated


def _hashes(cfg: Any, names: Sequence[str]) -> dict[str, str]:
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    return {name: sha256_of(catalog.resolve(name, files)) for name in names}


def _summary(job: StepRunner, weak: _Weak) -> str:
    """What was done and how long it took, as Markdown."""
    places = {
        "stage1": f"{weights_of(Path(weak.first.OUTPUT_DIR))}",
        "pseudo": ", ".join(
            map(str, pseudo_files(weak.first.DATASETS.TRAIN, weak.folder).values())
        ),
        "stage2": f"{weights_of(Path(weak.second.OUTPUT_DIR))}",
        "test": ", ".join(
            str(Path(weak.second.OUTPUT_DIR) / "inference" / name / "report.html")
            for name in weak.second.DATASETS.TEST
        ),
    }
    labelled = [
        _counts(name, output)
        for name, output in pseudo_files(weak.first.DATASETS.TRAIN, weak.folder).items()
    ]
    seconds = {name: job.wall_seconds(name) for name in STEPS}
    rows = [
        f"| {name} | {job.states[name]} | {seconds[name]:.1f} | {places[name]} |" for name in STEPS
    ]
    return "\n".join(
        [
            "# weakFaster R-CNN" if weak.settings.of == "suspected" else "# Self-training",
            "",
            f"Engine {weak.engine.NAME}, seed {weak.first.SEED}.",
            *labelled,
            "",
            "| step | this time | seconds, over all attempts | result |",
            "| --- | --- | ---: | --- |",
            *rows,
            f"| all | | {sum(seconds.values()):.1f} | {weak.folder} |",
            "",
        ]
    )


def _counts(name: str, output: Path) -> str:
    counts = json.loads(pseudo_label.summary_beside(output).read_text(encoding="utf-8"))["counts"]
    kind = "normal" if "normal_images" in counts else "labelled"
    on, of = counts[f"{kind}_images_with_pseudo_boxes"], counts[f"{kind}_images"]
    return (
        f"{name}: {counts['pseudo_boxes']} pseudo-boxes on {on} of {of} {kind} images, "
        f"beside {counts['target_boxes']} target boxes."
    )
