"""Which models come with simfrcnn, what do its configs train, and how good was what came out?

Figures of shipped models stand in their cards; those of trainings whose weights are not shipped
stand in ``simfrcnn/zoo/trained.json``, taken from their reports. The pages in ``docs/results`` say
the same, and a test compares them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simfrcnn.config import read_keys
from simfrcnn.config.shipped import FOLDER, named_in, shipped_configs
from simfrcnn.config.starting import verb_of
from simfrcnn.files import sha256_of
from simfrcnn.workflows.export import ModelFacts, describe_model
from simfrcnn.zoo import FOLDER as ZOO
from simfrcnn.zoo import find_model, shipped_models

TRAINED = ZOO / "trained.json"
TITLES: Mapping[str, str] = {
    "case/auc": "AUC by case",
    "breast/auc": "AUC by breast",
    "image/auc": "AUC by image",
    "finding/ap50": "AP50",
    "froc/centre/all/sensitivity_at_1": "sensitivity per finding at 1 false positive an image",
    "case/youden/sensitivity": "sensitivity by case (Youden)",
    "case/youden/specificity": "specificity by case (Youden)",
}
"""Figure -> what to call it."""


@dataclass(frozen=True)
class Judged:
    """What one training was worth.

    Attributes:
        config: It was trained with.
        model: Its name, where it is shipped.
        engine: It was trained with.
        seed: Of the training.
        judged_on: Name of the data set.
        page: Of ``docs/results``.
        checkpoint: Name of the file that the run made.
        weights_sha256: Of that file's weights, as ``simfrcnn show`` prints it.
        figures: Name -> value, low, high and method of the interval.
    """

    config: str
    engine: str
    seed: int
    judged_on: str
    page: str
    checkpoint: str
    weights_sha256: str
    figures: Mapping[str, Mapping[str, Any]]
    model: str | None = None

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        yield (
            f"{self.engine}, seed {self.seed}, judged on {self.judged_on} (docs/results/"
            f"{self.page}):"
        )
        yield f"  {_figures(self.figures.items())}"
        yield f"  {self.checkpoint}, weights sha256 {self.weights_sha256}"


def judged_trainings() -> list[Judged]:
    """What ``trained.json`` holds."""
    return [Judged(**one) for one in _document()["trainings"]]


def licence_of(data_set: str) -> str:
    """Under what the data of a name such as ``mias/train`` can be had."""
    licences: Mapping[str, str] = _document()["licences"]
    return next(text for start, text in licences.items() if data_set.startswith(start))


def model_lines() -> Iterator[str]:
    """Everything, for a terminal: shipped models, then what the shipped configs train."""
    by_config: dict[str, list[Judged]] = defaultdict(list)
    for one in judged_trainings():
        by_config[one.config].append(one)
    yield "Shipped with simfrcnn (--weights NAME); research only, none is a medical device:"
    for name in shipped_models():
        others = [one for ones in by_config.values() for one in ones if one.model == name]
        yield from _indented(_shipped(name, others))
    yield ""
    yield "Trained by shipped configs (figures and commands: docs/results):"
    by_data: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for config in shipped_configs():
        by_data[training_data(FOLDER / f"{config}.yaml")].append(config)
    for sets, configs in by_data.items():
        licences = dict.fromkeys(licence_of(name) for name in sets)
        yield f"  {', '.join(sets)} ({'; '.join(licences)})"
        for config in configs:
            own = [one for one in by_config[config] if one.model is None]
            yield f"    {config} ({verb_of(FOLDER / f'{config}.yaml')}){':' if own else ''}"
            for one in own:
                yield from _indented(one.lines(), by=6)


def training_data(path: Path) -> tuple[str, ...]:
    """The data sets that a config of any verb trains on, in its first training."""
    keys = {entry.key: entry.value for entry in read_keys(path)}
    verb = verb_of(path)
    if verb == "train-net":
        return tuple(keys["DATASETS.TRAIN"])
    return training_data(named_in(keys["STAGE1" if verb == "weak" else "CONFIG"], path))


def short(number: float) -> str:
    """As the pages write it: ``.766``, ``1``."""
    text = f"{number:.3f}".removeprefix("0")
    return "1" if text == "1.000" else text


def value_and_interval(figure: Mapping[str, Any]) -> str:
    """As the pages write it: ``.766 (.651-.852)``."""
    if figure.get("low") is None:
        return short(figure["value"])
    return f"{short(figure['value'])} ({short(figure['low'])}-{short(figure['high'])})"


def _shipped(name: str, judged: Iterable[Judged]) -> Iterator[str]:
    facts = describe_model(name)
    yield name
    yield f"  licence: {facts.card['licence']}"
    for one in facts.card["trained_on"]:
        yield f"  trained on {one['name']}: {one['patients']} patients, {one['images']} images"
    for data_set, figures in figures_of(facts).items():
        yield f"  judged on {data_set}: {_figures(figures.items())}"
    for one in judged:
        yield f"  judged on {one.judged_on}: {_figures(one.figures.items())}"
    path = find_model(name)
    yield f"  {path.stat().st_size / 2**20:.1f} MiB, sha256 {sha256_of(path)}"
    yield f"  weights sha256 {facts.weights_sha256}; `simfrcnn card {name}` says more"


def figures_of(facts: ModelFacts) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The figures of a card: data set -> figure -> value and interval."""
    figures: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for one in facts.card.get("figures", ()):
        if one.get("value") is not None:
            figures[one["data_set"]][one["figure"]] = one
    return dict(figures)


def _figures(figures: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    return ", ".join(f"{TITLES.get(name, name)} {value_and_interval(one)}" for name, one in figures)


def _indented(lines: Iterable[str], by: int = 2) -> Iterator[str]:
    return (" " * by + line for line in lines)


@cache
def _document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(TRAINED.read_text(encoding="utf-8"))
    return content
