"""How does a data set lose most of its boxes, and which sets must not?"""

from __future__ import annotations

import logging
from pathlib import Path

from simfrcnn.config.without_engine import load_without_engine
from simfrcnn.data import catalog
from simfrcnn.data.weaken import Weakened, weaken
from simfrcnn.errors import DataError, OutputError
from simfrcnn.wording import counted

logger = logging.getLogger("simfrcnn")


def weaken_data_set(
    dataset: str,
    output: Path,
    *,
    n_patients: int,
    seed: int,
    config_file: str | None = None,
    overwrite: bool = False,
) -> Weakened:
    """Write a copy of a data set in which few patients have boxes, and say what became of it.

    Args:
        dataset: A name, or ``NAME=FILE``.
        output: The new COCO file.
        n_patients: Whose boxes stay.
        seed: Another seed keeps others.
        config_file: Its target and ignored classes count, and its validation and test sets are
            refused.
        overwrite: Replace an earlier output.

    Raises:
        DataError: It is a set that a model is judged on, or too few patients have a box.
        OutputError: The output is there already, or cannot be written.
    """
    cfg = load_without_engine(config_file)
    name, given = catalog.named(dataset)
    annotated = catalog.load(name, given)
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    changed = (annotated.path.resolve(), output.resolve())
    for part in ("VAL", "TEST"):
        for judged in cfg.DATASETS[part]:
            if judged == name or catalog.path_of(judged, files) in changed:
                raise DataError(
                    f"{annotated.path} or {output} is {judged}, which {config_file} has in "
                    f"DATASETS.{part}: a set that models are judged on keeps its boxes"
                )
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; --overwrite replaces it, or give another --output")
    done = weaken(
        annotated,
        output,
        n_patients=n_patients,
        seed=seed,
        target_classes=tuple(cfg.DATASETS.TARGET_CLASSES),
        ignored_classes=tuple(cfg.EVAL.IGNORED_CLASSES),
    )
    logger.info(
        f"{output}: the boxes of {counted(n_patients, '[patient|patients]')} stay; "
        f"{counted(len(done.image_ids), '[image has|images have]')} a label and no box"
    )
    return done
