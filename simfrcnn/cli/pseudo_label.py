"""Make boxes of what a detector finds, between two trainings.

By default of what it wrongly finds on normal images (weakFaster R-CNN): on images that are known to
be normal every detection of a target is false. Those with a high score become boxes of a second
class, `suspected`, in a new COCO file; the radiologists' boxes stay as they are. With `--of labels`
(self-training) of images that have a label and no box: where the best detection is of the labelled
class, the most confident share of them get it as their box. The detections come from a model
(--config-file, --weights) or from a saved file (--detections). Beside the output lie a summary with
the histogram of scores and, from a model, its detections.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli import common
from simfrcnn.cli.options import add_options, given_options, given_settings
from simfrcnn.errors import ConfigError
from simfrcnn.settings import PseudoSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb; those of the settings come from :class:`PseudoSettings`."""
    common.add_engine_argument(parser)
    common.add_config_file_argument(parser, help="the config of stage 1: a file or a name")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="a checkpoint of stage 1")
    parser.add_argument(
        "--detections",
        metavar="FILE",
        type=Path,
        help="saved detections, in place of --config-file and --weights",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME[=PATH]",
        help="the data set to label: a name, or a name and its COCO file",
    )
    parser.add_argument("--output", required=True, metavar="FILE", type=Path, help="new COCO file")
    add_options(parser, PseudoSettings, defaults_from="--config-file")
    parser.add_argument(
        "--target-classes",
        nargs="+",
        metavar="NAME",
        help="with --detections: the classes whose detections count, or, with --of labels, which "
        "classes are targets (default: malignant)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    parser.add_argument(
        "--force",
        action="store_true",
        help="label although there are pseudo-boxes, or boxes on normal images, already, or the "
        "detections were made on another annotation file of the same images",
    )
    common.add_overrides(parser, "config keys to change, such as MODEL.DEVICE cpu")


def run(arguments: argparse.Namespace) -> int:
    """Detect on the normal or labelled images if need be, choose, and write the new file."""
    _check_arguments(arguments)
    from simfrcnn.config import load_config, pseudo_settings
    from simfrcnn.workflows import pseudo_label as labelling

    given = given_options(arguments, PseudoSettings)
    how = {"overwrite": arguments.overwrite, "force": arguments.force}
    if arguments.detections:
        labelling.label_from_file(
            arguments.dataset,
            arguments.detections,
            arguments.output,
            target_classes=arguments.target_classes or labelling.PLAIN_TARGETS,
            settings=labelling.used(given_settings(arguments, PseudoSettings()), given),
            **how,
        )
        return 0
    engine = common.start_engine(arguments.engine)
    cfg = load_config(engine.default_cfg(), arguments.config_file, arguments.opts)
    labelling.label_from_model(
        arguments.dataset,
        engine,
        cfg,
        arguments.weights,
        arguments.output,
        settings=labelling.used(given_settings(arguments, pseudo_settings(cfg)), given),
        **how,
    )
    return 0


def _check_arguments(arguments: argparse.Namespace) -> None:
    from_model = arguments.config_file or arguments.weights or arguments.opts
    if arguments.detections and from_model:
        raise ConfigError(
            "--detections is in place of a model: leave --config-file, --weights and KEY VALUE out"
        )
    if not arguments.detections and not (arguments.config_file and arguments.weights):
        raise ConfigError("give --config-file and --weights of stage 1, or --detections")
    if arguments.target_classes and not arguments.detections:
        raise ConfigError(
            "--target-classes goes with --detections; of a model, DATASETS.TARGET_CLASSES counts"
        )
