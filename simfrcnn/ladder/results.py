"""What do the runs of a ladder say: of each rung, and of each pair of rungs on the same cases?

Works with whatever is done; what is missing is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simfrcnn import artifacts, config
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.evaluation.comparison import (
    Comparison,
    PermutedTruth,
    Resampled,
    auc_under_permuted_truth,
    compare,
    mean_over_seeds,
    resample,
)
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.trainings import over_trainings, wider
from simfrcnn.ladder.derived import by_first_score
from simfrcnn.ladder.folders import Facts, State, common_facts, detections_of, facts_of
from simfrcnn.ladder.plan import Ladder, Role, Run, Rung
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import counted


@dataclass(frozen=True)
class RungResult:
    """One rung: which seeds are done, and what they say; no figures where none is.

    ``models`` and ``permuted_truth`` (the negative control of the evaluation) are by seed.
    """

    rung: Rung
    missing: tuple[int, ...]
    models: Mapping[int, Resampled]
    figures: Mapping[str, Figure]
    permuted_truth: Mapping[int, PermutedTruth | None]

    def quoted(self, key: str) -> Figure:
        """The figure of a metric with the wider interval: over patients, or trainings as well."""
        by_seed = [float(model.values[key][0]) for model in self.models.values()]
        return wider(self.figures[key], over_trainings(by_seed, self.figures[key], 0, 1))


@dataclass(frozen=True)
class Pair:
    """Two rungs compared on the seeds that both have; ``comparison`` is None where none is."""

    first: str
    second: str
    roles: tuple[Role, ...]
    seeds: tuple[int, ...]
    comparison: Comparison | None


@dataclass(frozen=True)
class RunResult:
    """One run: how far it is and, if it is done, its facts."""

    run: Run
    state: State
    facts: Facts | None


@dataclass(frozen=True)
class LadderResult:
    """Everything that the report shows. ``shared`` facts hold for all runs that are done."""

    ladder: Ladder
    engine: str
    settings: EvaluationSettings
    test_set: str
    test_sha256: str
    rungs: tuple[RungResult, ...]
    pairs: tuple[Pair, ...]
    runs: tuple[RunResult, ...]
    shared: Mapping[str, Any]
    notes: tuple[str, ...]


def judge_ladder(
    ladder: Ladder, runs: Sequence[Run], states: Mapping[str, State], engine: str
) -> LadderResult:
    """Judge every run that is done, on the same resamplings, and compare the rungs.

    Args:
        ladder: What the ladder file says.
        runs: All its runs, from :func:`simfrcnn.ladder.plan.plan_runs`.
        states: How far each is, by its name.
        engine: Name of the engine of all runs.

    Raises:
        SimFrcnnError: Detections, annotations or manifests that cannot be read or used.
    """
    tests: dict[str, AnnotatedSet] = {}
    done = [run for run in runs if states[run.name] is State.DONE]
    models = {(run.rung.name, run.seed): _judged(run, tests) for run in done}
    facts = {run.name: facts_of(run) for run in done}
    shared, differing = common_facts(list(facts.values())) if facts else ({}, [])
    test = _test_of(next(run for run in runs if not run.rung.permute_labels), tests)
    return LadderResult(
        ladder=ladder,
        engine=engine,
        settings=config.evaluation_settings(runs[0].cfg),
        test_set=runs[0].test_set,
        test_sha256=test.sha256,
        rungs=tuple(_rung_result(rung, ladder, models) for rung in ladder.rungs),
        pairs=tuple(_pair(*pair, ladder, models) for pair in ladder.pairs()),
        runs=tuple(RunResult(run, states[run.name], facts.get(run.name)) for run in runs),
        shared=shared,
        notes=tuple(_notes(runs, states, facts, differing)),
    )


def _judged(run: Run, tests: dict[str, AnnotatedSet]) -> Resampled:
    annotated = _test_of(run, tests)
    detections = artifacts.read_detections(detections_of(run))
    return resample(
        annotated.records,
        detections if run.rung.detector_of is None else by_first_score(detections),
        config.evaluation_settings(run.cfg),
        categories=annotated.categories,
    )


def _test_of(run: Run, tests: dict[str, AnnotatedSet]) -> AnnotatedSet:
    path = catalog.resolve(run.test_set, catalog.parse_files(tuple(run.cfg.DATASETS.FILES)))
    key = str(path)
    if key not in tests:
        tests[key] = catalog.load(run.test_set, {run.test_set: key}, check_files=False)
    return tests[key]


def _rung_result(
    rung: Rung, ladder: Ladder, models: Mapping[tuple[str, int], Resampled]
) -> RungResult:
    own = {seed: models[rung.name, seed] for seed in ladder.seeds if (rung.name, seed) in models}
    return RungResult(
        rung=rung,
        missing=tuple(seed for seed in ladder.seeds if seed not in own),
        models=own,
        figures=mean_over_seeds(list(own.values())) if own else {},
        permuted_truth={seed: auc_under_permuted_truth(each.cases) for seed, each in own.items()},
    )


def _pair(
    first: str,
    second: str,
    roles: tuple[Role, ...],
    ladder: Ladder,
    models: Mapping[tuple[str, int], Resampled],
) -> Pair:
    seeds = tuple(s for s in ladder.seeds if (first, s) in models and (second, s) in models)
    comparison = None
    if seeds:
        comparison = compare([models[first, s] for s in seeds], [models[second, s] for s in seeds])
    return Pair(first, second, roles, seeds, comparison)


def _notes(
    runs: Sequence[Run],
    states: Mapping[str, State],
    facts: Mapping[str, Facts],
    differing: Sequence[str],
) -> list[str]:
    notes = []
    for state in (State.UNFINISHED, State.ABSENT):
        seeds: dict[str, list[str]] = {run.rung.name: [] for run in runs}
        for run in (each for each in runs if states[each.name] is state):
            seeds[run.rung.name].append(str(run.seed))
        n = sum(map(len, seeds.values()))
        if n:
            named = "; ".join(f"{rung} (seed {', '.join(s)})" for rung, s in seeds.items() if s)
            notes.append(
                f"{n} of {counted(len(runs), '[run is|runs are]')} missing, {state.value}: {named}."
            )
    if differing:
        notes.append(
            f"The runs differ in {', '.join(differing)}: see ladder.json for what each ran under."
        )
    interrupted = [name for name, each in facts.items() if each.was_interrupted]
    if interrupted:
        notes.append(
            f"Interrupted and resumed, so that the time given may be too short: "
            f"{', '.join(interrupted)}."
        )
    return notes
