"""On which images may a combination be fitted? On those of a validation set alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from simfrcnn.config.without_engine import load_without_engine
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.errors import DataError

logger = logging.getLogger("simfrcnn")

_APPLY = "Fit on validation detections, then apply that combination.json here with --combination"


def require_fittable(annotated: AnnotatedSet, name: str | None, config_file: str | None) -> None:
    """Refuse a test set, and what a config says that its model has learnt from.

    A combination that has seen the test set would be judged on what it learnt. On images that a
    model was trained on its scores are surer than anywhere else, and it would be trusted too much;
    whether images of split ``train`` are such is not known without a config, so they are only said.
    So are images that state no split, unless the config has the set in DATASETS.VAL.

    Args:
        annotated: What is to be fitted on.
        name: Of the data set.
        config_file: A config of the models, if there is one.

    Raises:
        DataError: Says by what the set is a test or a training set, and what to do.
    """
    refusal = f"{annotated.path}: a combination is fitted on a validation set, not on a"
    splits = [(record.split or "").casefold() for record in annotated.records]
    tested = [r for r, s in zip(annotated.records, splits, strict=True) if s.startswith("test")]
    if tested:
        raise DataError(
            f"{refusal} test set; {len(tested)} of its images say split {tested[0].split!r}. "
            f"{_APPLY}"
        )
    is_validation = config_file is not None and _is_validation(
        refusal, annotated, name, config_file
    )
    n_unsaid = splits.count("")
    if n_unsaid and not is_validation:
        given = "no config was given" if config_file is None else f"{config_file} does not name it"
        logger.warning(
            f"{n_unsaid} images of {annotated.path} state no split, and {given}: whether this is a "
            "validation set is not known. Figures on what a combination was fitted on are too "
            "good; state `split` in the file, or give --config-file with a config that has the set "
            "in DATASETS.VAL"
        )
    n_trained = sum(split.startswith("train") for split in splits)
    if n_trained:
        logger.warning(
            f"{n_trained} images of {annotated.path} say split train: on images that a model has "
            "learnt from its scores are too sure, and the combination trusts it too much; fit on "
            "images that none of the models has seen"
        )


def _is_validation(
    refusal: str, annotated: AnnotatedSet, name: str | None, config_file: str
) -> bool:
    """Whether a config has the set in DATASETS.VAL; one that tests or trains on it is refused."""
    datasets = load_without_engine(config_file).DATASETS
    files = catalog.parse_files(tuple(datasets.FILES))

    def listed(key: str) -> Iterator[str]:
        for named in datasets[key]:
            if named == name or catalog.path_of(named, files) == annotated.path.resolve():
                yield named

    for key, what in (("TEST", "test"), ("TRAIN", "training")):
        for named in listed(key):
            raise DataError(
                f"{refusal} {what} set; {config_file} has it in DATASETS.{key} as {named}. {_APPLY}"
            )
    return any(listed("VAL"))
