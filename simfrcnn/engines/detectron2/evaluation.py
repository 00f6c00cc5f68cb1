"""How does Detectron2's evaluation loop judge by case?"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from simfrcnn.engines.common.testing import quick_report, save_detections
from simfrcnn.engines.detectron2.model import NAME, to_detections
from simfrcnn.evaluation.results import Report
from simfrcnn.files import write_json
from simfrcnn.structures import Detections
from simfrcnn.training import recipe

_LOGGED = ("case/", "breast/", "image/", "finding/", "froc/centre/all/")


class SimfrcnnEvaluator(DatasetEvaluator):
    """Our evaluation in Detectron2's loop: gathers over processes, saves detections, judges them.

    It has no intervals, to be cheap enough for every validation during training; ``simfrcnn
    evaluate`` makes the full report from the detections that are saved here.
    """

    def __init__(self, cfg: Any, dataset_name: str, output_folder: Path) -> None:
        """Read the annotations; nothing is written before :meth:`evaluate`.

        Args:
            cfg: For the classes and the rules of the evaluation.
            dataset_name: As in the config.
            output_folder: For ``detections.json``, its sidecar and ``report.json``.
        """
        self._cfg = cfg
        self._name = dataset_name
        self._folder = output_folder
        (self._annotated,) = recipe.load_sets(cfg, [dataset_name])
        self._found: list[Detections] = []

    def reset(self) -> None:
        """Forget what was found so far."""
        self._found = []

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Keep the detections of one batch."""
        self._found += [
            to_detections(entry["image_id"], output["instances"])
            for entry, output in zip(inputs, outputs, strict=True)
        ]

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Save and judge the detections of all processes; on the others than the first, None.

        Returns:
            Group (``case``, ``finding`` ...) -> figure -> value; undefined figures are left out.
        """
        gathered = comm.gather(self._found)
        if not comm.is_main_process():
            return None
        found = [detections for part in gathered for detections in part]
        path = self._folder / "detections.json"
        save_detections(path, found, self._cfg, self._annotated, {"engine": NAME})
        report = quick_report(found, self._cfg, self._annotated)
        write_json(self._folder / "report.json", report.to_json())
        logging.getLogger(__name__).info("detections of %s are in %s", self._name, path)
        return _grouped(report)


def build_evaluator(
    cfg: Any, dataset_name: str, output_folder: str | Path | None = None
) -> SimfrcnnEvaluator:
    """Our evaluator; writes to ``OUTPUT_DIR/inference/<data set>`` unless told otherwise."""
    folder = Path(output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    return SimfrcnnEvaluator(cfg, dataset_name, folder)


def _grouped(report: Report) -> OrderedDict[str, dict[str, float]]:
    groups: OrderedDict[str, dict[str, float]] = OrderedDict(case={})
    for name, value in report.scalars().items():
        if name.startswith(_LOGGED):
            group, _, figure = name.partition("/")
            groups.setdefault(group, {})[figure] = value
    return groups
