"""Which variants are trained with which seeds, and what is compared with what?

A ladder file is YAML::

    CONFIG: _study.yaml      # that all rungs share, relative to this file (or simfrcnn:NAME)
    SEEDS: [0, 1, 2]
    BASELINE: faster
    RUNGS:                   # in order
      faster:
        OPTIONS: {MODEL: {SIMFRCNN: {RPN_NORMALS: ordinary}}}   # keys as in a config file
      sim:
        BELOW: faster        # the rung it is compared with; by default the one before
    COMPARISONS: [[sim, faster]]  # what was planned, first - second; shown first
    EQUIVALENCE_MARGIN: 0.02      # the largest difference in AUC by case that does not matter

Further keys of a rung: ``CONFIG`` in place of the shared one; ``KIND: weak`` (weakFaster R-CNN's
two trainings; its ``CONFIG`` is a job file, see ``tools/weak.py``, and ``OPTIONS`` go over both
stages); ``PERMUTE_LABELS: True`` (a negative control, see :mod:`simfrcnn.data.permutation`; it is
compared with nothing, for its test cases have another truth); ``WEAKEN: {PATIENTS: 10}`` (boxes of
few patients, other ones for each seed; see :mod:`simfrcnn.ladder.weakened`); ``DETECTOR_OF: RUNG``
(nothing is trained: the detector of that rung's trainings, see :mod:`simfrcnn.ladder.derived`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from simfrcnn import config
from simfrcnn.config.shipped import find_config, named_in
from simfrcnn.config.stages import STAGES, read_stages
from simfrcnn.data import catalog
from simfrcnn.data.permutation import write_permuted
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError
from simfrcnn.ladder.derived import read_detector_of, require_a_second_look, source_of
from simfrcnn.ladder.weakened import Weakening, read_weakening, weakened_files, write_weakened
from simfrcnn.trees import leaves_of
from simfrcnn.yaml_text import read_mapping

Kind = Literal["train", "weak"]
Role = Literal["planned", "below", "baseline"]

PERMUTATION_SEED = 0
"""Of the negative control; one permutation for all seeds, so that their mean is over one truth."""
_LADDER_KEYS = ("CONFIG", "SEEDS", "BASELINE", "RUNGS", "COMPARISONS", "EQUIVALENCE_MARGIN")
_RUNG_KEYS = ("OPTIONS", "BELOW", "KIND", "CONFIG", "PERMUTE_LABELS", "WEAKEN", "DETECTOR_OF")
_FIXED = ("SEED", "OUTPUT_DIR")


@dataclass(frozen=True)
class Rung:
    """One variant. ``options`` are config keys, nested; ``below`` is the rung it is compared with.

    ``below`` is None for the first rung and for a negative control. ``detector_of`` names the rung
    whose trainings hold this one as their detector.
    """

    name: str
    config: Path
    options: Mapping[str, Any]
    below: str | None
    kind: Kind = "train"
    permute_labels: bool = False
    weakening: Weakening | None = None
    detector_of: str | None = None

    @property
    def labels(self) -> str:
        """What became of the labels of its data."""
        permuted = "permuted by patient" if self.permute_labels else "as annotated"
        return permuted if self.weakening is None else str(self.weakening)


@dataclass(frozen=True)
class Ladder:
    """A ladder file. Without an ``equivalence_margin`` nothing is tested for equivalence."""

    path: Path
    config: Path
    seeds: tuple[int, ...]
    baseline: str
    rungs: tuple[Rung, ...]
    comparisons: tuple[tuple[str, str], ...]
    equivalence_margin: float | None = None

    def pairs(self) -> list[tuple[str, str, tuple[Role, ...]]]:
        """What is compared, (first, second, why), each pair once; COMPARISONS go first.

        Each rung with the one below it and with the baseline; not the rung below the baseline
        with the baseline, which is the same difference with the other sign.
        """
        own_below = next(rung.below for rung in self.rungs if rung.name == self.baseline)
        left_out = (self.baseline, own_below)
        roles: dict[tuple[str, str], list[Role]] = {pair: ["planned"] for pair in self.comparisons}
        for rung in self.rungs:
            if rung.below is not None:
                roles.setdefault((rung.name, rung.below), []).append("below")
            if not rung.permute_labels and rung.name not in left_out:
                roles.setdefault((rung.name, self.baseline), []).append("baseline")
        return [(first, second, tuple(why)) for (first, second), why in roles.items()]


@dataclass(frozen=True)
class Run:
    """One rung with one seed: its folder, and the command that trains and tests it.

    ``configs`` are the resolved configs of its trainings in their order, each with its own
    OUTPUT_DIR; a weak run has two. ``sources`` are the annotation files that were given by name,
    before any permutation of labels.
    """

    rung: Rung
    seed: int
    folder: Path
    configs: tuple[Any, ...]
    words: tuple[str, ...]
    sources: Mapping[str, str]

    @property
    def cfg(self) -> Any:
        """The config of the training whose detections count: the last."""
        return self.configs[-1]

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.rung.name} seed {self.seed}"

    @property
    def result_folder(self) -> Path:
        """The run folder whose detections count."""
        return Path(self.cfg.OUTPUT_DIR)

    @property
    def log(self) -> Path:
        """What the commands print."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def test_set(self) -> str:
        """The name of the test set."""
        return str(self.cfg.DATASETS.TEST[0])


def read_ladder(path: str | Path) -> Ladder:
    """Read and check a ladder file, given by its path or by a name such as ``ladder/study``.

    Raises:
        ConfigError: Names the file, the rung and the key, what is legal, and the nearest name.
    """
    path = find_config(path, what="ladder file")
    tree = read_mapping(path, "ladder file")
    _known(tree, _LADDER_KEYS, f"{path}")
    for key in ("CONFIG", "SEEDS", "BASELINE", "RUNGS"):
        if key not in tree:
            raise ConfigError(f"{path}: {key} is missing")
    shared = _config_file(tree["CONFIG"], path, "CONFIG")
    entries = _mapping(tree["RUNGS"], f"{path}: RUNGS")
    if not entries:
        raise ConfigError(f"{path}: RUNGS is empty; name at least one")
    rungs: list[Rung] = []
    for name, entry in entries.items():
        rungs.append(_rung(path, str(name), entry, shared, rungs))
    compared = [rung.name for rung in rungs if not rung.permute_labels]
    _one_of(tree["BASELINE"], compared, f"{path}: BASELINE")
    for rung in rungs:
        if rung.below is not None:
            others = [name for name in compared if name != rung.name]
            _one_of(rung.below, others, f"{path}: rung {rung.name}: BELOW")
    rungs = [_as_its_source(rung, source_of(rung, rungs, path)) for rung in rungs]
    return Ladder(
        path=path,
        config=shared,
        seeds=_seeds(tree["SEEDS"], path),
        baseline=tree["BASELINE"],
        rungs=tuple(rungs),
        comparisons=_comparisons(tree.get("COMPARISONS") or [], compared, path),
        equivalence_margin=_margin(tree.get("EQUIVALENCE_MARGIN"), path),
    )


def _as_its_source(rung: Rung, source: Rung) -> Rung:
    """A rung with the config and the labels that its runs are trained on."""
    return dataclasses.replace(rung, config=source.config, weakening=source.weakening)


def plan_runs(
    ladder: Ladder, engine: Engine, output: Path, *, datasets: Sequence[str] = ()
) -> list[Run]:
    """Every run of a ladder with its resolved config: seed by seed, each in the order of the rungs.

    Args:
        ladder: What :func:`read_ladder` gave.
        engine: Of all runs; the rungs are read into its config tree.
        output: Runs go to ``<output>/<rung>/seed_<n>``.
        datasets: NAME=PATH entries, as ``--dataset`` of a training.

    Raises:
        ConfigError: A rung's config cannot be honoured, or the rungs do not share one test set and
            one set of EVAL rules.
    """
    runs = [
        _run_of(ladder, rung, seed, engine, output, datasets)
        for seed in ladder.seeds
        for rung in ladder.rungs
    ]
    first = runs[0]
    for run in runs:
        if len(run.cfg.DATASETS.TEST) != 1:
            raise ConfigError(
                f"{ladder.path}, rung {run.rung.name}: DATASETS.TEST is "
                f"{tuple(run.cfg.DATASETS.TEST)}; a ladder compares on one test set"
            )
        rules = [(each.test_set, config.evaluation_settings(each.cfg)) for each in (first, run)]
        if rules[0] != rules[1]:
            raise ConfigError(
                f"{ladder.path}: the rungs {first.rung.name} and {run.rung.name} are judged by "
                f"different rules ({rules[0]} and {rules[1]}); DATASETS.TEST, TARGET_CLASSES and "
                "EVAL belong in the shared CONFIG"
            )
    return runs


def make_sets(runs: Iterable[Run]) -> None:
    """Write the annotation files of the negative controls and of rungs with few boxes."""
    written: set[Path] = set()
    for run in runs:
        permuted = _permuted_files(run.folder.parent, run.cfg) if run.rung.permute_labels else {}
        for name, path in permuted.items():
            if path not in written:
                write_permuted(catalog.load(name, run.sources), path, PERMUTATION_SEED)
                written.add(path)
        if run.rung.weakening is not None:
            data = run.configs[0].DATASETS
            write_weakened(
                weakened_files(run.folder.parent, run.seed, data.TRAIN),
                run.sources,
                run.rung.weakening,
                seed=run.seed,
                target_classes=tuple(data.TARGET_CLASSES),
                ignored_classes=tuple(run.configs[0].EVAL.IGNORED_CLASSES),
            )


def choose(wanted: str | None, legal: Sequence[str], what: str) -> list[str]:
    """The names of a comma-separated list, in the order of ``legal``; None takes all.

    Raises:
        ConfigError: A name that is not there.
    """
    if wanted is None:
        return list(legal)
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        _one_of(name, legal, what)
    return [name for name in legal if name in names]


def _run_of(
    ladder: Ladder, rung: Rung, seed: int, engine: Engine, output: Path, datasets: Sequence[str]
) -> Run:
    """The run of a rung: of another one, where that one's detector is meant."""
    run = _run(ladder, source_of(rung, ladder.rungs, ladder.path), seed, engine, output, datasets)
    if rung.detector_of is not None:
        require_a_second_look(run.cfg, f"{ladder.path}: rung {rung.name}")
    return dataclasses.replace(run, rung=rung)


def _run(
    ladder: Ladder, rung: Rung, seed: int, engine: Engine, output: Path, datasets: Sequence[str]
) -> Run:
    folder = output / rung.name / f"seed_{seed}"
    options = ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
    for key, value in leaves_of(rung.options):
        options += [key, _word(value)]
    given = ["--config-file", str(rung.config), "--engine", engine.NAME]
    try:
        if rung.kind == "weak":
            job = read_stages(rung.config, options)
            sources = catalog.parse_files(datasets)
            first = job.config_of(STAGES[0], _defaults(engine, datasets))
            datasets = _entries(sources | _made_files(rung, folder, seed, first))
            configs = [job.config_of(stage, _defaults(engine, datasets)) for stage in STAGES]
            given += [word for entry in datasets for word in ("--dataset", entry)]
            return Run(rung, seed, folder, tuple(configs), ("weak", *given, *options), sources)
        cfg = config.load_config(_defaults(engine, datasets), rung.config, options)
    except ConfigError as error:
        raise ConfigError(f"{ladder.path}, rung {rung.name}: {error}") from error
    sources = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    if made := _made_files(rung, folder, seed, cfg):
        cfg.defrost()
        cfg.DATASETS.FILES = _entries(sources | made)
        cfg.freeze()
    options += ["DATASETS.FILES", json.dumps(list(cfg.DATASETS.FILES), ensure_ascii=False)]
    return Run(rung, seed, folder, (cfg,), ("train-net", *given, "--resume", *options), sources)


def _defaults(engine: Engine, datasets: Sequence[str]) -> Any:
    cfg = engine.default_cfg()
    cfg.DATASETS.FILES = tuple(datasets)
    return cfg


def _entries(files: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={path}" for name, path in files.items())


def _made_files(rung: Rung, folder: Path, seed: int, cfg: Any) -> dict[str, str]:
    """The annotation files that the ladder makes for a run, by name."""
    files = _permuted_files(folder.parent, cfg) if rung.permute_labels else {}
    if rung.weakening is not None:
        files = weakened_files(folder.parent, seed, cfg.DATASETS.TRAIN)
    return {name: str(path) for name, path in files.items()}


def _permuted_files(folder: Path, cfg: Any) -> dict[str, Path]:
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
    return {name: folder.absolute() / "permuted_labels" / f"{name}.json" for name in names}


def _word(value: Any) -> str:
    """A value as a word of the command line, which reads it as YAML; JSON is YAML."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _rung(
    path: Path,
    name: str,
    entry: Any,
    shared: Path,
    before: Sequence[Rung],
) -> Rung:
    where = f"{path}: rung {name}"
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"{where}: it names a folder; letters, digits, _ and - are legal")
    tree = _mapping(entry or {}, where)
    _known(tree, _RUNG_KEYS, where)
    detector_of = read_detector_of(tree, where)
    kind, permute = tree.get("KIND", "train"), tree.get("PERMUTE_LABELS", False)
    _one_of(kind, get_args(Kind), f"{where}: KIND")
    if not isinstance(permute, bool):
        raise ConfigError(f"{where}: PERMUTE_LABELS is {permute!r}; True or False is legal")
    options = _mapping(tree.get("OPTIONS") or {}, f"{where}: OPTIONS")
    for key, _ in leaves_of(options):
        if key.rpartition(".")[2] in _FIXED:
            raise ConfigError(f"{where}: OPTIONS sets {key}, which the ladder sets for each run")
    if kind == "weak" and (permute or "CONFIG" not in tree):
        raise ConfigError(
            f"{where}: KIND weak takes a CONFIG of its own (a job file for tools/weak.py), and no "
            "PERMUTE_LABELS"
        )
    candidates = [rung.name for rung in before if not rung.permute_labels]
    below = tree.get("BELOW", candidates[-1] if candidates and not permute else None)
    if below is not None and permute:
        raise ConfigError(f"{where}: a rung with PERMUTE_LABELS has another truth: no BELOW")
    own = _config_file(tree["CONFIG"], path, f"rung {name}: CONFIG") if "CONFIG" in tree else shared
    weakening = read_weakening(tree.get("WEAKEN"), where)
    if permute and weakening is not None:
        raise ConfigError(f"{where}: PERMUTE_LABELS and WEAKEN make the same sets; take one")
    return Rung(name, own, options, below, kind, permute, weakening, detector_of)


def _comparisons(entries: Any, names: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    where = f"{path}: COMPARISONS"
    if not isinstance(entries, list) or any(
        not isinstance(pair, list) or len(pair) != 2 for pair in entries
    ):
        raise ConfigError(f"{where} is {entries!r}; a list of pairs [first, second] is legal")
    for pair in entries:
        for name in pair:
            _one_of(name, names, where)
        if pair[0] == pair[1]:
            raise ConfigError(f"{where}: {pair[0]} is compared with itself")
    return tuple((first, second) for first, second in entries)


def _margin(value: Any, path: Path) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < 1:
        raise ConfigError(
            f"{path}: EQUIVALENCE_MARGIN is {value!r}; a difference in AUC by case between 0 and 1 "
            "is legal, such as 0.02, or no such key: then nothing is tested for equivalence"
        )
    return float(value)


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    is_list = isinstance(value, list) and bool(value)
    if not is_list or any(type(seed) is not int or seed < 0 for seed in value):
        raise ConfigError(f"{path}: SEEDS is {value!r}; a list of integers from 0 on is legal")
    if len(set(value)) < len(value):
        raise ConfigError(f"{path}: SEEDS {value} holds a seed twice")
    return tuple(value)


def _config_file(value: Any, path: Path, key: str) -> Path:
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} is {value!r}; the path of a config file is legal")
    found = named_in(value, path)
    if not found.is_file():
        raise ConfigError(f"{path}: {key} {value} does not exist; looked for {found}")
    return found


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a mapping, not {type(value).__name__}")
    return value


def _known(tree: Mapping[str, Any], legal: Sequence[str], where: str) -> None:
    for key in tree:
        _one_of(key, legal, f"{where}: key")


def _one_of(name: Any, legal: Sequence[str], where: str) -> None:
    if name in legal:
        return
    near = difflib.get_close_matches(str(name), legal, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{where} {name!r} is unknown; there are {', '.join(legal)}.{hint}")
