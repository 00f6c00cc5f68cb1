"""Which detector is trained, and in which pixels are its detections?"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from operator import getitem
from typing import Any

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.common.labelled import judge_of, require_separate_regions
from simfrcnn.engines.common.masks import masks_of
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.engines.common.stages import adapt_stages
from simfrcnn.engines.common.teacher import Teacher, require_use
from simfrcnn.engines.contract import SECOND_LOOK_KEY, TEACHER_KEY, as_contracted, loss_keys
from simfrcnn.engines.detectron2.backbone import stages_of, statistics_freezer
from simfrcnn.engines.detectron2.data import targets_of, to_dicts
from simfrcnn.engines.detectron2.mask_head import SimMaskHead
from simfrcnn.engines.detectron2.mixed_precision import keep_boxes_exact
from simfrcnn.engines.detectron2.roi_heads import SimROIHeads
from simfrcnn.engines.detectron2.rpn import TopLikelihoodRPN
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.sampling.regions import Bags
from simfrcnn.second_look import Found, Picture, SecondLook, identity_of, picture_of
from simfrcnn.structures import Frame, ImageTargets

NAME = "detectron2"

logger = logging.getLogger("simfrcnn")

_MUST_BE_FALSE = {
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "it would drop the normal images",
    "DATALOADER.ASPECT_RATIO_GROUPING": "it would break the pairs",
    "MODEL.KEYPOINT_ON": "mammograms come with boxes",
    "MODEL.LOAD_PROPOSALS": "the top likelihood loss trains the network's own proposals",
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": "a region's background score is needed to rank partners",
}


@META_ARCH_REGISTRY.register()
class SimFasterRCNN(GeneralizedRCNN):
    """Detectron2's R-CNN, trained on positive and normal images; inference is the library's.

    Inputs are dicts as :func:`simfrcnn.engines.detectron2.data.to_dicts` makes them: the library's
    keys, in training ``is_normal`` or what :func:`~simfrcnn.engines.detectron2.data.targets_of`
    takes of a mapper of one's own, and ``frame``, which takes detections back to the stored
    image's pixels. Without ``frame`` an image must have the size of ``INPUT.MAMMO.SIZE``:
    Detectron2's own ``DefaultPredictor`` resizes otherwise and does not crop, and its detections
    would be wrong.
    """

    @configurable
    def __init__(
        self,
        *,
        identity: Identity,
        loss_names: Sequence[str],
        input_size: tuple[int, int],
        second_look: SecondLook | None = None,
        mask_min_score: float = 0.5,
        **parts: Any,
    ) -> None:
        """Take the library's parts, and what a config says beside them.

        Args:
            identity: For checkpoints.
            loss_names: Of every training step, in order.
            input_size: (height, width) of the images that the network is made for.
            second_look: What looks again at what is suspected; None for nothing.
            mask_min_score: From which score on detections get a mask, with a mask head.
            **parts: The library's arguments.
        """
        super().__init__(**parts)
        self.identity = identity
        self._loss_names = tuple(loss_names)
        self._input_size = input_size
        self._has_warned = False
        self.second_look = second_look
        self.mask_min_score = mask_min_score
        self.teacher: Teacher | None = None

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Build the parts, and refuse what would silently spoil a training of pairs.

        Raises:
            ConfigError: A key that must be off, or an RPN or head that does not know normal images.
        """
        for key, reason in _MUST_BE_FALSE.items():
            *groups, name = key.split(".")
            if functools.reduce(getitem, groups, cfg).get(name):  # v0.6 lacks the last one
                raise ConfigError(f"{key} is True: {reason}. Set it to False.")
        parts: dict[str, Any] = super().from_config(cfg)
        _require(cfg, "PROPOSAL_GENERATOR", parts["proposal_generator"], TopLikelihoodRPN)
        _require(cfg, "ROI_HEADS", parts["roi_heads"], SimROIHeads)
        stages = stages_of(parts["backbone"], parts["roi_heads"])
        adapt_stages(cfg, stages, statistics_freezer(cfg))
        keep_boxes_exact(parts["roi_heads"])
        if cfg.MODEL.MASK_ON:
            _require(cfg, "ROI_MASK_HEAD", parts["roi_heads"].mask_head, SimMaskHead)
        look = build_second_look(cfg)  # last: the other weights are those without it
        require_separate_regions(cfg, parts["roi_heads"], look)
        return {
            **parts,
            "identity": Identity.of(NAME, cfg),
            "loss_names": loss_keys(cfg),
            "input_size": config.input_settings(cfg).size_px,
            "second_look": look,
            "mask_min_score": config.evaluation_settings(cfg).score_threshold,
        }

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the ResNet by name (stem, res2 ... res5); empty for another backbone."""
        return stages_of(self.backbone, self.roi_heads)

    @property
    def firing_scores(self) -> Tensor:
        """(N,) how hard the last training step fired on each known image of its batch."""
        scores: Tensor = self.roi_heads.box_predictor.firing_scores
        return scores

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses by :func:`~simfrcnn.engines.contract.loss_keys` in training, else detections.

        Raises:
            EngineError: A head returns a loss that the contract does not know, or lacks one.
            DataError: An image that is not as this model's loader makes it.
        """
        if not self.training:
            return self.inference(batched_inputs)
        known = [entry for entry in batched_inputs if not targets_of(entry).is_unknown]
        require_use(len(batched_inputs) - len(known), self.teacher)
        # The teacher first: what a step leaves behind is that of the batch.
        taught = {} if self.teacher is None else {TEACHER_KEY: self._taught(batched_inputs)}
        losses = self._losses(known)
        return as_contracted({**losses, **taught}, self._loss_names)

    def _taught(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """What is learnt from the boxes of the teacher, logged apart from the batch's."""
        assert self.teacher is not None
        if any("sample" not in entry for entry in batched_inputs):
            raise DataError(
                "an image comes without 'sample': the teacher (MODEL.SIMFRCNN.LABELS.TEACHER) "
                "boxes what simfrcnn's loader makes; use it, or switch the teacher off"
            )
        samples = [entry["sample"] for entry in batched_inputs]
        with EventStorage(get_event_storage().iter):  # pictures are due as often as without
            loss = self.teacher.loss(samples, lambda boxed: self._losses(to_dicts(boxed)))
        return loss.to(self.device)

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The losses of a batch, but for the teacher's."""
        known = [targets_of(entry) for entry in batched_inputs]
        is_normal = [one.is_normal for one in known]
        bags = self._bags_of(known)
        images = self.preprocess_image(batched_inputs)
        targets = [entry["instances"].to(self.device) for entry in batched_inputs]
        features = self.backbone(images.tensor)
        look = self.second_look
        pictures = [] if look is None else [self._picture(entry) for entry in batched_inputs]
        proposals, rpn_losses = self.proposal_generator(
            images,
            features,
            targets,
            is_normal=is_normal,
            labelled=bags.images,
            normal_weights=[one.normal_weight for one in known],
        )
        _, roi_losses = self.roi_heads(
            images,
            features,
            proposals,
            targets,
            is_normal=is_normal,
            bags=bags,
            judge=judge_of(look, self.roi_heads.labels, pictures),
        )
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        losses: dict[str, Tensor] = {**rpn_losses, **roi_losses}
        if look is not None:
            losses[SECOND_LOOK_KEY] = look.training_loss(
                pictures, known, self.roi_heads.box_predictor.regions
            )
        return losses

    def _bags_of(self, known: Sequence[ImageTargets]) -> Bags:
        """The labelled images of a batch, if labels train and are of the model's classes."""
        bags = Bags.of(known)
        if bags.images and self.roi_heads.labels is None:
            raise DataError(
                "an image of the batch has an 'image_label', but DATASETS.LABELS_PER_ITEM is 0, so "
                "labels do not train; set it to 1 or more, or leave such images out"
            )
        n_classes = self.roi_heads.num_classes
        if unknown := [label for label in bags.labels if not 1 <= label <= n_classes]:
            raise DataError(
                f"an image of the batch has the 'image_label' {unknown[0]}; legal are 1 to "
                f"{n_classes}, as DATASETS.CLASSES are counted from 1"
            )
        return bags

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """The library's inference; an input's ``frame`` decides the pixels of its detections."""
        for entry in batched_inputs:
            if "frame" not in entry:
                self._check_foreign(entry)
        raw = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        if self.second_look is not None:
            raw = self._looked_at_again(batched_inputs, raw)
        if not do_postprocess:
            return raw
        return [
            {"instances": _in_original_pixels(instances, entry["frame"], self.mask_min_score)}
            if "frame" in entry
            else _as_the_library_does(instances, entry)
            for instances, entry in zip(raw, batched_inputs, strict=True)
        ]

    def _looked_at_again(
        self, batched_inputs: list[dict[str, Any]], raw: list[Instances]
    ) -> list[Instances]:
        """Detections with the scores and the order that a second look gives them."""
        assert self.second_look is not None
        found = [
            Found(one.pred_boxes.tensor, one.scores, one.pred_classes + 1)  # the core's 1..K
            for one in raw
        ]
        pictures = [self._picture(entry) for entry in batched_inputs]
        looked_at = []
        for before, after in zip(raw, self.second_look.rescored(pictures, found), strict=True):
            instances = before[after.order]
            instances.scores = after.scores
            instances.first_scores = after.first_scores
            instances.second_scores = after.second_scores
            instances.squares = after.squares
            looked_at.append(instances)
        return looked_at

    def _picture(self, entry: dict[str, Any]) -> Picture:
        """What squares are cut from; of an image that our loader did not make, the input alone."""
        assert self.second_look is not None
        source = self.second_look.settings.source
        if "sample" in entry:
            return picture_of(entry["sample"], source)
        if source == "input":
            return Picture(entry["image"][0].cpu(), identity_of(entry["image"]))
        raise DataError(
            f"{entry.get('file_name', 'an image')} comes without 'sample': the second look cuts "
            "from the stored image (MODEL.SECOND_LOOK.SOURCE native), which only simfrcnn's loader "
            "keeps; use simfrcnn.load(WEIGHTS), or its build_test_loader"
        )

    def _check_foreign(self, entry: dict[str, Any]) -> None:
        """Refuse an image that was not made for this network; warn once of one that may be."""
        size = tuple(entry["image"].shape[-2:])
        image = entry.get("file_name", "an image")
        if size != tuple(self._input_size):
            raise DataError(
                f"{image} comes with {size[0]} x {size[1]} pixels and without 'frame': it was not "
                f"made by simfrcnn's loader, which crops to the breast and makes "
                f"{self._input_size[0]} x {self._input_size[1]} (INPUT.MAMMO). Detectron2's "
                "DefaultPredictor cannot do that: use simfrcnn.load(WEIGHTS), or the loader of "
                "simfrcnn.engines.detectron2.build_test_loader"
            )
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                f"{image} comes without 'frame', so it was not made by simfrcnn's loader; it is "
                "taken as cropped and scaled already. simfrcnn.load(WEIGHTS) does both"
            )


def _as_the_library_does(instances: Instances, entry: dict[str, Any]) -> Any:
    """The library scales boxes and masks; it does not know squares, which are left out."""
    if instances.has("squares"):
        instances.remove("squares")
    return GeneralizedRCNN._postprocess([instances], [entry], [instances.image_size])[0]


def _in_original_pixels(instances: Instances, frame: Frame, mask_min_score: float) -> Instances:
    """Map the boxes back; those that lie in the padding alone are dropped, as the library does.

    In place of the library's pictures of masks, a gigabyte a film, ``pred_rles`` are run lengths.
    """
    boxes = Boxes(frame.to_original(instances.pred_boxes.tensor))
    size = (frame.original_height, frame.original_width)
    is_there = boxes.nonempty()
    fields = {**instances.get_fields(), "pred_boxes": boxes}
    if "squares" in fields:
        fields["squares"] = frame.to_original_unclipped(fields["squares"])
    mapped = Instances(size, **fields)[is_there]
    if mapped.has("pred_masks"):
        in_input = instances.pred_boxes.tensor[is_there]
        grids = mapped.pred_masks[:, 0]
        mapped.remove("pred_masks")
        mapped.pred_rles = list(
            masks_of(grids, in_input, mapped.scores, frame, min_score=mask_min_score)
        )
    return mapped


def _require(cfg: Any, group: str, part: Any, kind: type) -> None:
    if not isinstance(part, kind):
        legal = "SimRes5ROIHeads, SimStandardROIHeads" if kind is SimROIHeads else kind.__name__
        what = "findings without an outline" if kind is SimMaskHead else "normal images"
        raise ConfigError(
            f"MODEL.{group}.NAME is {cfg.MODEL[group].NAME!r}, which does not know {what}; "
            f"legal with SimFasterRCNN: {legal}"
        )
